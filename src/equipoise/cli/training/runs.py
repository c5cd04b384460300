"""`equipoise runs`: what was run, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Json, show


def runs(
    folder: Annotated[Path, typer.Argument(help="folder with run folders")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs of a folder: method, data, rounds, state, main figure and when, the last one first."""
    from equipoise.report.run import listing

    show(listing.runs(folder), as_json, listing.print_runs, plain=listing.as_json)
