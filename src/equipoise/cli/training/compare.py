"""`equipoise compare`: any runs side by side, in tables and on one page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders; differences are to the first")],
    out: Annotated[Path | None, typer.Option(help="page (.html) or picture (.png) to write")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Compare runs: figures of the same evaluation side by side, and in words what cannot be compared."""
    from equipoise.report.comparison import compare as report
    from equipoise.report.comparison.text import print_comparison

    files = [run for run in runs if run.is_file()]
    runs = [run for run in runs if not run.is_file()]  # as a pattern of the shell matches both
    for file in files:
        print(f"note: {file} is a file and no run; it is left out", file=sys.stderr)
    found = report.compare(runs)
    if as_json:
        print(json.dumps(found.plain(), ensure_ascii=False, indent=2))
    else:
        print_comparison(found)
    if out:
        from equipoise.report.comparison.page import write_comparison

        page = write_comparison(runs, out)
        if not as_json:
            print(f"comparison  {page}")
