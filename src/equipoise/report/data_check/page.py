"""The data check as one HTML page: self-contained, without scripts, readable in the dark and on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from equipoise.report.data_check.check import Report
from equipoise.report.data_check.tables import sentences, sheets
from equipoise.report.data_check.text import shortened
from equipoise.report.data_check.views import Part, Piece, View
from equipoise.report.page import render_page
from equipoise.report.page import write_page as write_whole
from equipoise.safe_text import printable

SIDES = ("prompt", "chosen", "rejected", "completion", "answer")
LONGEST_PART = 20_000  # characters of a prompt or an answer on the page
LONGEST_NAME = 200


def write_page(report: Report, path: Path) -> Path:
    """Write the page whole or not at all, and return its path."""
    return write_whole(path, render_page("data_check.html.jinja", **page_context(report)))


def page_context(report: Report) -> dict[str, Any]:
    """Everything that the page shows, as texts from which controls and invisible characters are escaped."""
    names = ", ".join(PurePath(file).name for file in report.files)
    facts = [("kind", report.kind), ("format", report.format), ("space", report.space)]
    facts.append(("tokenizer", report.model or "none: characters"))
    return {
        "title": f"{_name(names)} – data check",
        "heading": _name(names),
        "facts": [(name, _name(value)) for name, value in facts],
        "ledger": [(_name(w), f"{n:,}", _name(where, 1000)) for w, n, where in report.ledger.rows()],
        "notes": [_name(note, 1000) for note in report.ledger.notes],
        "sentences": [printable(sentence) for sentence in sentences(report)],
        "sheets": [
            {
                "title": sheet.title,
                "columns": sheet.columns,
                "rows": [[_name(cell) for cell in row] for row in sheet.rows],
            }
            for sheet in sheets(report)
        ],
        "rows": [_view(view) for view in report.views],
    }


def _name(text: str, most: int = LONGEST_NAME) -> str:
    return printable(text, most=most)


def _view(view: View) -> dict[str, Any]:
    return {"at": _name(view.at), "label": view.label, "parts": [_part(part) for part in view.parts]}


def _part(part: Part) -> dict[str, Any]:
    pieces = shortened(part.pieces, LONGEST_PART)
    return {
        "name": part.name,
        "css": part.name if part.name in SIDES else "",
        "about": part.about,
        "pieces": list(_pieces(pieces)),
        "open": bool(pieces) and pieces[-1].scored,
    }


def _pieces(pieces: Sequence[Piece]) -> Iterator[dict[str, Any]]:
    before = False
    for index, piece in enumerate(pieces):
        css = "closing" if piece.closing else "scored odd" if index % 2 else "scored"
        yield {
            "text": printable(piece.text.replace("\r\n", "\n"), lines=True),
            "css": css if piece.scored else "read",
            "closing": piece.closing,
            "opens": piece.scored and not before,
            "shuts": before and not piece.scored,
        }
        before = piece.scored
