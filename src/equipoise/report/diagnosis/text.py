"""A diagnosis on a terminal, and as one HTML page: self-contained, without scripts."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from equipoise.data.ledger import Ledger
from equipoise.report.diagnosis.findings import Figures, findings
from equipoise.report.diagnosis.tables import sheets
from equipoise.report.findings import parts, print_parts, shown
from equipoise.report.page import render_page, write_page


def about(figures: Figures) -> str:
    """One sentence: what was looked at."""
    models = figures["model"] + (f", and {figures['trained']} trained from it" if figures["trained"] else "")
    return f"{figures['pairs']:,} pairs of {figures['prompts']:,} prompts under {models}"


def print_diagnosis(figures: Figures, ledger: Ledger, console: Console) -> None:
    """The whole diagnosis for a person."""
    print_parts(about(figures), findings(figures), sheets(figures), ledger, console)


def write_diagnosis(figures: Figures, ledger: Ledger, path: Path) -> Path:
    """Write the page whole or not at all, and return its path."""
    facts = [
        ("model", figures["model"]),
        ("trained model", figures["trained"] or "none given"),
        ("pairs", f"{figures['pairs']:,}"),
        ("prompts", f"{figures['prompts']:,}"),
        ("beta", f"{figures['beta']:g}"),
    ]
    heading = shown(figures["trained"] or figures["model"])
    html = render_page(
        "findings.html.jinja",
        title=f"{heading} – diagnosis",
        kicker="diagnosis of preference data",
        heading=heading,
        note="Log-probabilities are summed over the tokens of a response.",
        pictures=[],
        **parts(facts, findings(figures), sheets(figures), ledger),
    )
    return write_page(path, html)
