"""The data check on a terminal: tables, sentences, and rows whose scored tokens are in colour and in brackets."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from equipoise.report.data_check.check import Report
from equipoise.report.data_check.tables import sentences, sheets
from equipoise.report.data_check.views import Part, Piece, View
from equipoise.report.sheet import print_sheet
from equipoise.safe_text import printable

COLOURS = {"chosen": "green", "rejected": "red", "completion": "green"}
LONGEST_PART = 1500  # characters of a prompt or an answer that are shown, from its beginning and from its end

LEGEND = "dim: read, not scored; [in brackets]: scored; after the |: the token that closes the answer"


def print_check(report: Report, console: Console) -> None:
    """The whole report for a person."""
    console.print(report.ledger.table())
    for note in report.ledger.notes:
        console.print(Text(f"- {printable(note)}"))
    for sentence in sentences(report):
        console.print(Text(f"- {printable(sentence)}"))
    for sheet in sheets(report):
        print_sheet(sheet, console)
    if report.views:
        console.print(Text(f"\n{LEGEND}", style="dim"))
    for view in report.views:
        print_view(view, console)


def print_view(view: View, console: Console) -> None:
    """One row: its place and label, then a paragraph for each part."""
    console.print(Text(f"\n{printable(view.at)}", style="bold").append(f"  {printable(view.label)}", "dim"))
    for part in view.parts:
        console.print(_coloured(part), soft_wrap=True)


def _coloured(part: Part) -> Text:
    """One part: alternating weights show token boundaries, brackets what is scored; text in the data stays literal."""
    about = f" ({printable(part.about)})" if part.about else ""
    text = Text.assemble((f"{printable(part.name)}{about}: ", "bold"))
    colour = COLOURS.get(part.name, "yellow")
    inside = False
    for index, piece in enumerate(shortened(part.pieces)):
        style = f"{'bold ' if index % 2 else ''}underline {colour}" if piece.scored else "dim"
        if piece.scored != inside:
            text.append("[" if piece.scored else "]")
            inside = piece.scored
        if piece.closing:
            text.append("|")
        text.append(_shown(piece.text), style=f"reverse {colour}" if piece.closing else style)
    return text.append("]") if inside else text


def _shown(text: str) -> str:
    return printable(text.replace("\r\n", "\n"), lines=True)


def shortened(pieces: Sequence[Piece], most: int = LONGEST_PART) -> list[Piece]:
    """The pieces, with the middle of a long text left out and counted."""
    total = sum(len(piece.text) for piece in pieces)
    if total <= most:
        return list(pieces)
    head, tail, used = [], [], 0
    for piece in pieces:
        if used >= most // 2:
            break
        kept = piece.text[: most // 2 - used]
        head.append(Piece(kept, piece.scored, piece.closing and kept == piece.text))
        used += len(kept)
    used = 0
    for piece in reversed(pieces):
        if used >= most // 2:
            break
        kept = piece.text[-(most // 2 - used) :]
        tail.append(Piece(kept, piece.scored, piece.closing))
        used += len(kept)
    left = total - sum(len(piece.text) for piece in (*head, *tail))
    return [*head, Piece(f" ... ({left:,} characters) ... ", scored=head[-1].scored), *reversed(tail)]
