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
) -> None:
    """List the papers' claims, or run one claim's program and print its evidence."""
    from equipoise.report.claims.text import print_claims, print_evidence

    if name is None:
        from equipoise.report.methods.stored import claims

        print_claims(claims(), Console())
    else:
        from equipoise.report.claims.evidence import run_claim

        print_evidence(run_claim(name, scale, out), Console())
