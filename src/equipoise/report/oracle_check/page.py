"""The oracle check as one HTML page: self-contained, without scripts, readable in the dark and on a phone."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from equipoise.report.findings import parts, shown
from equipoise.report.oracle_check.figures import draw
from equipoise.report.oracle_check.findings import findings
from equipoise.report.oracle_check.run import Report
from equipoise.report.oracle_check.tables import sheets
from equipoise.report.page import render_page
from equipoise.report.page import write_page as write_whole


def write_page(report: Report, path: Path) -> Path:
    """Write the page whole or not at all, and return its path."""
    return write_whole(
        path, render_page("findings.html.jinja", pictures=draw(report), **page_context(report))
    )


def page_context(report: Report) -> dict[str, Any]:
    """Everything that the page shows but its pictures."""
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
        "title": f"{shown(oracle['name'])} – oracle check",
        "kicker": "oracle check",
        "note": "Every comparison was asked in both orders; unless said otherwise, a verdict is the mean of the two.",
        "heading": shown(oracle["name"]),
        **parts(facts, findings(report), sheets(report), report.ledger),
    }
