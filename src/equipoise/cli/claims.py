"""`equipoise claims`: testable sentences of the papers, as programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console


def claims(
    name: Annotated[str | None, typer.Argument(help="run one claim")] = None,
    scale: Annotated[Literal["quick", "full"], typer.Option(help="seconds or minutes")] = "quick",
    out: Annotated[Path | None, typer.Option(help="folder for the figures and the evidence")] = None,
    seed_offset: Annotated[int, typer.Option(min=0, help="move all seeds of the program")] = 0,
    fresh: Annotated[
        int, typer.Option(min=0, help="run as shipped, and with so many other sets of seeds")
    ] = 0,
) -> None:
    """List the papers' claims, or run one claim's program and print its evidence."""
    from equipoise.report.claims.text import print_claims, print_run

    if name is None:
        from equipoise.report.methods.stored import claims

        print_claims(claims(), Console())
    else:
        from equipoise.claims.grades import GRADES
        from equipoise.report.claims.evidence import run_claim

        found = run_claim(name, scale, out, seed_offset=seed_offset, fresh=fresh)
        print_run(found, scale, GRADES[name].letter, Console())
