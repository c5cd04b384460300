"""The oracle check on a terminal: the ledger, findings and tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.report.data_check.tables import Sheet
from equipoise.report.oracle_check.findings import findings
from equipoise.report.oracle_check.run import Report
from equipoise.report.oracle_check.tables import sheets
from equipoise.safe_text import printable

COLOURS = {"good": "green", "note": "yellow", "warning": "red"}
LONGEST = 60


def print_report(report: Report, console: Console) -> None:
    """The whole report for a person."""
    console.print(report.ledger.table())
    for note in report.ledger.notes:
        console.print(Text(f"- {printable(note)}"))
    data = report.figures["data"]
    console.print(
        Text(f"\n{data['comparisons']:,} comparisons of {data['prompts']:,} prompts, asked in both orders")
    )
    for finding in findings(report):
        text = Text(f"{finding.level:8}", style=COLOURS[finding.level])
        text.append(printable(finding.title), style="bold").append(f". {printable(finding.text)}")
        console.print(text)
    for sheet in sheets(report):
        console.print(Text(f"\n{printable(sheet.title)}", style="italic"))
        console.print(_table(sheet))


def _table(sheet: Sheet) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(sheet.columns):
        table.add_column(Text(printable(name, most=LONGEST)), justify="right" if index else "left")
    for row in sheet.rows:
        table.add_row(*(Text(printable(cell, most=LONGEST)) for cell in row))
    return table
