"""`equipoise data ...`: look at preference data before training on it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.options import Json, Settings, show

if TYPE_CHECKING:
    from equipoise.data.report import Report

app = typer.Typer(no_args_is_help=True, help="Look at preference data before training on it.")


@app.command()
def check(
    file: Annotated[list[str], typer.Argument(help="data files")],
    model: Annotated[
        str | None, typer.Option(help="show tokens as this model's tokenizer makes them")
    ] = None,
    set: Settings = None,
    as_json: Json = False,
) -> None:
    """Read data as a run would: the ledger, and with a model which tokens are scored."""
    from equipoise.data.report import check_json, print_check
    from equipoise.run.config import parse_settings

    show(checked(file, model, parse_settings(set or [])), as_json, print_check, plain=check_json)


def checked(files: Sequence[str], model: str | None, settings: Mapping[str, Any]) -> Report:
    """The files, read with the settings that a run would take. Raises ConfigError for a setting that does not apply."""
    from equipoise.data.report import check as read
    from equipoise.run.config import ConfigError, resolve

    named = {f"data.{name.removeprefix('data.')}": value for name, value in settings.items()}
    data = resolve("dpo", named).data
    taken = {name.removeprefix("data."): getattr(data, name.removeprefix("data.")) for name in named}
    unused = sorted(taken.keys() - inspect.signature(read).parameters.keys())
    if unused:
        raise ConfigError(f"these settings do not apply to data check: {', '.join(unused)}")
    return read(files, model=model, **taken)
