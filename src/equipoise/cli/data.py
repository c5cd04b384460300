"""`equipoise data ...`: look at preference data before training on it, and write it in other layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.data_options import Configuration, Files, FormatName, Mapped, data_settings
from equipoise.cli.options import Json, Settings, show

app = typer.Typer(no_args_is_help=True, help="Look at preference data, and convert, split or sample it.")


@app.command()
def check(
    file: Files,
    model: Annotated[
        str | None, typer.Option(help="show tokens as this model's tokenizer makes them")
    ] = None,
    format: FormatName = None,
    mapping: Mapped = None,
    rows: Annotated[int, typer.Option(min=0, help="how many of the first rows are shown")] = 3,
    row: Annotated[
        list[str] | None, typer.Option("--row", metavar="FILE:LINE", help="show this row (repeatable)")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="write the report as one HTML page")] = None,
    config: Configuration = None,
    set: Settings = None,
    as_json: Json = False,
) -> None:
    """Read data as a run would: the ledger, lengths, labels, and with a model which tokens are scored."""
    from equipoise.report.data_check.check import SETTINGS, check_json
    from equipoise.report.data_check.check import check as read
    from equipoise.report.data_check.text import print_check

    settings, stored = data_settings(
        SETTINGS, "check", format=format, mapping=mapping, set=set, config=config
    )
    report = read(file, model or stored, rows, row or (), **settings)
    if html:
        from equipoise.report.data_check.page import write_page

        write_page(report, html)
    show(report, as_json, print_check, plain=check_json)
    if html and not as_json:
        print(f"page  {html}")
