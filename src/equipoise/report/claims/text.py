"""Claims on the console: the list, and the evidence that a run gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from equipoise.claims.claim import Cell, Evidence, Fresh, Scale

QUICK = "A quick run has few seeds and is too small to be cited: --scale full."


def print_claims(claims: Iterable[Mapping[str, str]], console: Console) -> None:
    """The list of claims, each by its name, paper, grade and sentence."""
    table = Table()
    for column in ("name", "paper", "grade", "claim"):
        table.add_column(column)
    for claim in claims:
        table.add_row(claim["name"], claim["paper"], claim["grade"], escape(claim["sentence"]))
    console.print(table)


def print_run(found: Fresh, scale: Scale, grade: str, console: Console) -> None:
    """Figures and summary of the first run, the verdict with its scale, and the verdicts of further offsets."""
    (first, evidence), *others = found.runs.items()
    print_evidence(evidence, console)
    seeds = "nothing is drawn: other seeds change nothing" if found.exact else f"seed offset {first}"
    console.print(f"verdict  [bold]{evidence.verdict}[/bold]  ({scale} scale, {seeds}, grade {grade})")
    for offset, other in others:
        console.print(f"         {other.verdict}  (seed offset {offset})")
        console.print(escape(f"         {other.summary}"), highlight=False)
    if others:
        console.print(f"over all offsets  [bold]{found.verdict}[/bold]")
    if scale == "quick":
        console.print(QUICK)


def print_evidence(evidence: Evidence, console: Console) -> None:
    """Every table, then the summary."""
    for table in evidence.tables:
        shown = Table(title=escape(table.title), title_justify="left")
        for i, column in enumerate(table.columns):
            numeric = all(not isinstance(row[i], str) for row in table.rows)
            shown.add_column(escape(column), justify="right" if numeric else "left")
        for row in table.rows:
            shown.add_row(*(escape(cell(value)) for value in row))
        console.print(shown)
    console.print(escape(evidence.summary), highlight=False)


def told(shipped: str, fresh: Mapping[int, str]) -> str:
    """The verdicts of other offsets, in a sentence."""
    others = ", ".join(f"{verdict} ({offset})" for offset, verdict in fresh.items())
    return f"Seeds as shipped: {shipped}. Other seeds (offset): {others}."


def cell(value: Cell) -> str:
    """A figure as text: four digits, or a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
