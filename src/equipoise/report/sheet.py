"""Tables of a report as plain strings, for its page and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.safe_text import printable

LONGEST = 60  # characters of a cell on the terminal


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: its title, its columns (the first one words, the others numbers), its rows; not yet escaped.

    note   what a reader should know of its figures; "" if nothing
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print a table under its title. Its texts may come from outside: they carry no markup and no control."""
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(sheet.columns):
        # a figure that does not fit goes on in the next line: cut off, an interval would lose its end
        table.add_column(
            Text(printable(name, most=LONGEST)), justify="right" if index else "left", overflow="fold"
        )
    for row in sheet.rows:
        table.add_row(*(Text(printable(cell, most=LONGEST)) for cell in row))
    console.print(Text(f"\n{printable(sheet.title)}", style="italic"))
    console.print(table)
    if sheet.note:
        console.print(Text(printable(sheet.note)))
