"""The oracle check on a terminal: the ledger, findings and tables."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from equipoise.report.oracle_check.findings import findings
from equipoise.report.oracle_check.run import Report
from equipoise.report.oracle_check.tables import sheets
from equipoise.report.sheet import print_sheet
from equipoise.safe_text import printable

COLOURS = {"good": "green", "note": "yellow", "warning": "red"}


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
        print_sheet(sheet, console)
