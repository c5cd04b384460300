"""`equipoise demo`: three runs of the built-in language game, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options import Seed

METHODS = ("dpo", "spac", "inpo")
ABOUT = (
    "A guest asks for tea, and a small language model answers with one of 24 sentences. Three judges vote on every two "
    "answers, and their majority runs in circles: it prefers one answer to another, that to a third, and the third to "
    "the first. The model was trained in three ways from the same start: dpo learns from recorded pairs in one "
    "round, spac from the same pairs in rounds against a critic, inpo from its own answers and the judges. They do not "
    "train equally long; the table at the end has their steps. Figures are of requests that were never trained on."
)


def demo(
    out: Annotated[Path, typer.Option(help="folder for the three runs")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Align the built-in model with DPO, SPAC and INPO and compare them; a few minutes on two cores."""
    from equipoise.report.comparison.compare import compare
    from equipoise.report.comparison.page import write_comparison
    from equipoise.report.comparison.text import print_table
    from equipoise.run.session import align

    runs = [align(name, out=out / name, seed=seed).folder for name in METHODS]
    print_table(compare(runs))
    page = write_comparison(runs, out / "comparison.html", ABOUT)
    print(f"comparison  {page}")
    for folder in runs:
        print(f"report      {folder / 'report.html'}")
