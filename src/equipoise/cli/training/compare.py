"""`equipoise compare`: several runs in one table and on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders")],
    out: Annotated[Path | None, typer.Option(help="page (.html) or picture (.png) to write")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="NAME",
            help="compare regardless of different_model, different_data, different_evaluation or different_oracle; "
            "repeatable",
        ),
    ] = None,
) -> None:
    """Compare the last rounds of runs of one model, data and oracle."""
    from equipoise.report.run import compare as report

    report.print_table(report.compare(runs, allow or []))
    report.print_differences(runs, allow or [])
    if out:
        print(f"comparison  {report.write_comparison(runs, out, allow or [])}")
