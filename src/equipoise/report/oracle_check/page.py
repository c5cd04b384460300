"""The oracle check as one HTML page: self-contained, without scripts, readable in the dark and on a phone."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from equipoise.report.oracle_check.figures import draw
from equipoise.report.oracle_check.findings import findings
from equipoise.report.oracle_check.run import Report
from equipoise.report.oracle_check.tables import sheets
from equipoise.report.page import render_page
from equipoise.report.page import write_page as write_whole
from equipoise.safe_text import printable

LONGEST = 200


def write_page(report: Report, path: Path) -> Path:
    """Write the page whole or not at all, and return its path."""
    return write_whole(
        path, render_page("oracle_check.html.jinja", pictures=draw(report), **page_context(report))
    )


def page_context(report: Report) -> dict[str, Any]:
    """Everything that the page shows but its pictures, as texts from which controls and invisible characters are
    escaped."""
    data, oracle = report.figures["data"], report.first
    facts = [
        ("data", ", ".join(PurePath(file).name for file in report.files)),
        ("kind", f"{report.kind} ({report.format})"),
        ("comparisons", f"{data['comparisons']:,}"),
        ("prompts", f"{data['prompts']:,}"),
        ("label ties", f"{data['label_ties']:,}"),
        ("soft labels", f"{data['soft_labels']:,}"),
        ("fingerprint", oracle["fingerprint"]),
    ]
    facts += [
        ("compared with", ", ".join(other["name"] for other in report.figures["oracles"][1:]) or "nobody")
    ]
    return {
        "title": f"{_name(oracle['name'])} – oracle check",
        "heading": _name(oracle["name"]),
        "facts": [(name, _name(value)) for name, value in facts],
        "findings": [
            {"level": found.level, "title": _name(found.title), "text": _name(found.text, 1000)}
            for found in findings(report)
        ],
        "sheets": [
            {
                "title": _name(sheet.title),
                "columns": [_name(column) for column in sheet.columns],
                "rows": [[_name(cell) for cell in row] for row in sheet.rows],
            }
            for sheet in sheets(report)
        ],
        "ledger": [(_name(w), f"{n:,}", _name(where, 1000)) for w, n, where in report.ledger.rows()],
        "notes": [_name(note, 1000) for note in report.ledger.notes],
    }


def _name(text: str, most: int = LONGEST) -> str:
    return printable(text, most=most)
