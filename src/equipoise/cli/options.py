"""What the commands share: options that several of them take, and how a result is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

Result = TypeVar("Result")

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE ...", help="settings by dotted or short name, several at a time"
    ),
]
MethodName = Annotated[
    str | None, typer.Argument(help="see `equipoise methods`; may stand in the file of --config")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="NAME",
        help="a gate that may be closed, or an input that may have changed (docs/gates.md); repeatable",
    ),
]
Model = Annotated[str | None, typer.Option(help="checkpoint folder or hub name")]
Data = Annotated[list[str] | None, typer.Option(help="file of pairs or prompts (repeatable)")]
Oracle = Annotated[
    str | None,
    typer.Option(
        help="module:function, file.py:function, an oracle's YAML file, label:PORT (people), or a reward model's folder"
    ),
]
Rounds = Annotated[int | None, typer.Option(min=1, help="rounds of the game")]
RunSeed = Annotated[int | None, typer.Option(help="random seed of the whole run")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace an output file that exists")]
Seed = Annotated[int, typer.Option(help="random seed of the whole run")]


def show(
    result: Result,
    as_json: bool,
    text: Callable[[Result, Console], None],
    *,
    plain: Callable[[Result], Any] = lambda result: result,
    picture: Path | None = None,
) -> None:
    """Print a result: `plain` of it as one JSON object, or `text` for people and where its picture was drawn."""
    if as_json:
        print(json.dumps(plain(result)))
        return
    text(result, Console())
    if picture:
        print(f"picture  {picture}")
