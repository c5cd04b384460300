"""`equipoise init`: a commented configuration for a task, which `align --config` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from equipoise.cli.options import Overwrite
from equipoise.cli.output_file import write_new

Task = Literal["pairs", "lora", "judge", "reward", "demonstrations"]
TEMPLATES = Path(__file__).parent / "templates"


def text(task: Task) -> str:
    """The configuration of a task."""
    return (TEMPLATES / f"{task}.yaml").read_text(encoding="utf-8")


def init(
    task: Annotated[
        Task,
        typer.Argument(
            help="pairs: your own pairs; lora: the same with adapters; judge: online with an LLM judge; reward: online "
            "with a reward model; demonstrations: supervised fine-tuning"
        ),
    ] = "pairs",
    out: Annotated[str, typer.Option(help="YAML file to write; -: standard output")] = "align.yaml",
    overwrite: Overwrite = False,
) -> None:
    """Write a commented configuration for a task: fill in model and data, then `equipoise align --config FILE`."""
    write_new(
        (out, [text(task).replace("THIS_FILE", "align.yaml" if out == "-" else out)]), overwrite=overwrite
    )
    if out == "-":
        return
    others = ", ".join(name for name in get_args(Task) if name != task)
    typer.echo(
        f"{out}: fill in model and data, then\n  equipoise plan --config {out}\n  equipoise align --config {out}"
    )
    typer.echo(f"other tasks: {others}", err=True)
