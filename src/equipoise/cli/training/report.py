"""`equipoise report`: the page of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Rewrite a run folder's report.html."""
    from equipoise.report.run.page import write_report

    print(write_report(folder))
