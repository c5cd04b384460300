"""Claims on the console: the list, and the evidence that a run gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from equipoise.claims.claim import Cell, Evidence


def print_claims(claims: Iterable[Mapping[str, str]], console: Console) -> None:
    """The list of claims, each by its name, paper and sentence."""
    table = Table()
    for column in ("name", "paper", "claim"):
        table.add_column(column)
    for claim in claims:
        table.add_row(claim["name"], claim["paper"], escape(claim["sentence"]))
    console.print(table)


def print_evidence(evidence: Evidence, console: Console) -> None:
    """Every table, then the summary and the verdict."""
    for table in evidence.tables:
        shown = Table(title=escape(table.title), title_justify="left")
        for i, column in enumerate(table.columns):
            numeric = all(not isinstance(row[i], str) for row in table.rows)
            shown.add_column(escape(column), justify="right" if numeric else "left")
        for row in table.rows:
            shown.add_row(*(escape(cell(value)) for value in row))
        console.print(shown)
    console.print(escape(evidence.summary), highlight=False)
    console.print(f"verdict  [bold]{evidence.verdict}[/bold]")


def cell(value: Cell) -> str:
    """A figure as text: four digits, or a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
