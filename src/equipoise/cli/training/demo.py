"""`equipoise demo`: three runs of the built-in language game, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Seed

METHODS = ("dpo", "spac", "inpo")


def demo(
    out: Annotated[Path, typer.Option(help="folder for the three runs")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Align the built-in model with DPO, SPAC and INPO and compare them; a few minutes on two cores."""
    from equipoise.report.run.compare import compare
    from equipoise.report.run.compare_page import write_comparison
    from equipoise.report.run.compare_text import print_table
    from equipoise.run.session import align

    runs = [align(name, out=out / name, seed=seed).folder for name in METHODS]
    print_table(compare(runs))
    page = write_comparison(runs, out / "comparison.html")
    print(f"comparison  {page}")
    for folder in runs:
        print(f"report      {folder / 'report.html'}")
