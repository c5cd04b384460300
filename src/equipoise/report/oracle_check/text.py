"""The oracle check on a terminal: the ledger, findings and tables."""

from __future__ import annotations

from rich.console import Console

from equipoise.report.findings import print_parts
from equipoise.report.oracle_check.findings import findings
from equipoise.report.oracle_check.run import Report
from equipoise.report.oracle_check.tables import sheets


def print_report(report: Report, console: Console) -> None:
    """The whole report for a person."""
    data = report.figures["data"]
    about = f"{data['comparisons']:,} comparisons of {data['prompts']:,} prompts, asked in both orders"
    print_parts(about, findings(report), sheets(report), report.ledger, console)
