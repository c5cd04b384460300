"""What the `data` commands share: which settings a run reads data with, from options, `--set` and a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Files = Annotated[list[str], typer.Argument(help="data files", metavar="FILE ...")]
FormatName = Annotated[str | None, typer.Option("--format", help="a format's name; by default detected")]
Mapped = Annotated[
    list[str] | None,
    typer.Option("--mapping", metavar="OURS=THEIRS ...", help="our column = yours, several at a time"),
]
Configuration = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings, of which those of `data` are used")
]


def data_settings(
    accepted: Collection[str],
    command: str,
    *,
    format: str | None = None,
    mapping: Sequence[str] | None = None,
    set: Sequence[str] | None = None,
    config: Path | None = None,
) -> tuple[dict[str, Any], str | None]:
    """(settings of `data` that were given, the model that the file names).

    accepted   names of the settings that this command uses; one that is typed and not used is refused, one that a
               file holds for other purposes is not.

    Raises ConfigError for an unknown or illegal setting.
    """
    from equipoise.run.config import ConfigError, parse_settings, read_file, resolve

    stored = read_file(config) if config else {}
    stored.pop("inputs", None)
    method = str(stored.get("method", "dpo"))
    typed = {_full(name): value for name, value in parse_settings(set or []).items()}
    typed |= {} if format is None else {"data.format": format}
    if mapping:
        typed["data.mapping"] = _columns(mapping)
    resolved = resolve(method, stored, typed)
    defaults = resolve(method).data
    unused = sorted(
        name.removeprefix("data.") for name in typed if name.removeprefix("data.") not in accepted
    )
    if unused:
        raise ConfigError(f"these settings do not apply to data {command}: {', '.join(unused)}")
    given = {
        name: value
        for name in accepted
        if (value := getattr(resolved.data, name, None)) != getattr(defaults, name, None)
    }
    return given, resolved.model.path


def options_of(function: Callable[..., Any]) -> frozenset[str]:
    """The names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def _full(name: str) -> str:
    return f"data.{name.removeprefix('data.')}"


def _columns(items: Sequence[str]) -> Mapping[str, str]:
    from equipoise.run.config import ConfigError

    columns = dict(item.partition("=")[::2] for item in items)
    wrong = next((item for item in items if not all(item.partition("="))), None)
    if wrong is not None:
        raise ConfigError(f"--mapping {wrong!r}: write our column, =, your column, such as prompt=question")
    return columns
