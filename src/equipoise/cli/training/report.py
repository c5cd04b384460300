"""`equipoise report`: the page of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="a run folder")],
    pictures: Annotated[
        bool, typer.Option("--pictures", help="also write each chart as a picture for print, figures/*.png")
    ] = False,
) -> None:
    """Rewrite a run folder's report.html."""
    from equipoise.report.run.page import write_pictures, write_report
    from equipoise.report.run.world_page import is_of_a_world, write_world_report

    print((write_world_report if is_of_a_world(folder) else write_report)(folder))
    for picture in write_pictures(folder) if pictures else ():
        print(picture)
