"""What the `data` commands share: which settings a run reads data with, from options, `--set` and a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from equipoise.cli.options import Settings

Files = Annotated[
    list[str] | None, typer.Argument(help="data files; may stand in the file of --config", metavar="FILE ...")
]
FormatName = Annotated[str | None, typer.Option("--format", help="a format's name; by default detected")]
Mapped = Annotated[
    list[str] | None,
    typer.Option("--mapping", metavar="OURS=THEIRS ...", help="our column = yours, several at a time"),
]
Configuration = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings, of which those of `data` are used")
]
_OPTIONS = {
    "file": Files,
    "format": FormatName,
    "mapping": Mapped,
    "config": Configuration,
    "set": Settings,
}


@dataclass(frozen=True)
class Given:
    """What a `data` command was given: files, settings of `data` other than their defaults, the model of the file."""

    files: Sequence[Any]
    settings: Mapping[str, Any]
    model: str | None


def given(
    files: Sequence[str] | None,
    accepted: Collection[str],
    command: str,
    *,
    format: str | None = None,
    mapping: Sequence[str] | None = None,
    set: Sequence[str] | None = None,
    config: Path | None = None,
) -> Given:
    """Files and settings of a command, from its options and a configuration file.

    files      None: those of the configuration file
    accepted   names of the settings that this command uses; one that is typed and not used is refused, one that a
               file holds for other purposes is not.

    Raises ConfigError for an unknown or illegal setting, and without any file.
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
    changed = {
        name: value
        for name in accepted
        if (value := getattr(resolved.data, name, None)) != getattr(defaults, name, None)
    }
    if "seed" in accepted and resolved.seed != resolve(method).seed:
        changed["seed"] = resolved.seed  # as a run of this configuration draws rows
    paths = files or resolved.data.path
    if not paths:
        raise ConfigError("which data? name files, or a --config file with data.path")
    return Given(paths, changed, resolved.model.path)


def reads_data(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a `data` command the options of its data: FILE ..., --format, --mapping, --config and --set.

    The command has a parameter `data` in their place: what they say, of the settings that `read` uses (`Given`).
    """

    @wraps(command)
    def reading(**options: Any) -> None:
        from equipoise.data.reading.read import read

        typed = {name: options.pop(name) for name in _OPTIONS}
        command(given(typed.pop("file"), options_of(read), command.__name__, **typed), **options)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]
    reading.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    reading.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    return reading


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
