"""Findings in plain words, and pages and terminal output that are made of facts, findings and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from equipoise.data.ledger import Ledger
from equipoise.report.sheet import Sheet, print_sheet
from equipoise.safe_text import printable

Level = Literal["good", "note", "warning"]
LEVELS: tuple[Level, ...] = ("warning", "note", "good")
COLOURS = {"good": "green", "note": "yellow", "warning": "red"}
LONGEST = 200  # characters of a name on a page
LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Finding:
    """One sentence or two, under a title."""

    level: Level
    title: str
    text: str


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """The most serious first."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def shown(text: str, most: int = LONGEST) -> str:
    """A text for a page: controls and invisible characters escaped, cut to a length."""
    return printable(text, most=most)


def parts(
    facts: Sequence[tuple[str, str]], found: Sequence[Finding], sheets: Sequence[Sheet], ledger: Ledger
) -> dict[str, Any]:
    """What the template `findings.html.jinja` shows of facts, findings, tables and the rows of the data."""
    return findings_and_sheets(found, sheets) | {
        "facts": [(name, shown(value)) for name, value in facts],
        "ledger": [(shown(what), f"{n:,}", shown(where, LONGEST_TEXT)) for what, n, where in ledger.rows()],
        "notes": [shown(note, LONGEST_TEXT) for note in ledger.notes],
    }


def findings_and_sheets(found: Sequence[Finding], sheets: Sequence[Sheet]) -> dict[str, Any]:
    """Findings and tables as templates show them."""
    return {
        "findings": [
            {"level": one.level, "title": shown(one.title), "text": shown(one.text, LONGEST_TEXT)}
            for one in found
        ],
        "sheets": [
            {
                "title": shown(sheet.title),
                "columns": [shown(column) for column in sheet.columns],
                "rows": [[shown(cell) for cell in row] for row in sheet.rows],
                "note": shown(sheet.note, LONGEST_TEXT),
            }
            for sheet in sheets
        ],
    }


def print_parts(
    about: str, found: Sequence[Finding], sheets: Sequence[Sheet], ledger: Ledger, console: Console
) -> None:
    """The same for a person at a terminal; `about` says what was looked at."""
    console.print(ledger.table())
    for note in ledger.notes:
        console.print(Text(f"- {printable(note)}"))
    console.print(Text(f"\n{printable(about)}"))
    for finding in found:
        text = Text(f"{finding.level:8}", style=COLOURS[finding.level])
        text.append(printable(finding.title), style="bold").append(f". {printable(finding.text)}")
        console.print(text)
    for sheet in sheets:
        print_sheet(sheet, console)
