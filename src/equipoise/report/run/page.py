"""The report of a run: one self-contained page, without network or external files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.policy.files import whole
from equipoise.report.charts.interactive import page_scripts
from equipoise.report.diagnosis.findings import findings
from equipoise.report.diagnosis.tables import sheets
from equipoise.report.diagnosis.text import about
from equipoise.report.findings import findings_and_sheets, shown
from equipoise.report.numbers import duration, percent, plain
from equipoise.report.page import cut, render_page, write_page
from equipoise.report.run.charts import charts_of
from equipoise.report.run.diagnose import diagnose
from equipoise.report.run.header import facts
from equipoise.report.run.load import DIAGNOSIS, load_run
from equipoise.report.run.matrix import matrix_of
from equipoise.report.run.metrics import METRICS, ROUND_METRICS, Metric
from equipoise.report.run.records import Estimate, Ledger, Round, Run
from equipoise.report.run.round_charts import centre
from equipoise.report.run.sample_views import MAX_PROMPTS, MAX_TEXT, sample_views
from equipoise.report.run.self_tests import self_tests
from equipoise.report.run.verdict import verdict

MAX_DOCUMENT = 60_000  # characters; beyond, the file itself is the better place


@dataclass(frozen=True)
class Row:
    """One metric and its (value, interval) texts, one pair per column."""

    metric: Metric
    cells: list[tuple[str, str]]


def write_report(run_dir: str | Path) -> Path:
    """Read the run folder, write report.html into it, and return the page's path.

    It is written whole or not at all. Raises RunFolderError if the folder cannot be read.
    """
    run = load_run(run_dir)
    charts = charts_of(run)
    html = render_page("page.html.jinja", charts=charts, **page_scripts(charts), **page_context(run))
    return write_page(run.folder / "report.html", html)


def write_pictures(run_dir: str | Path) -> list[Path]:
    """Write each chart of a run as figures/NAME.png, for print. Raises as `write_report` does."""
    from equipoise.report.charts.printed import picture

    run = load_run(run_dir)
    paths = []
    for chart in charts_of(run):
        path = run.folder / "figures" / f"{chart.name}.png"
        with whole(path) as draft:
            draft.write_bytes(picture([chart]))
        paths.append(path)
    return paths


def page_context(run: Run) -> dict[str, Any]:
    """Everything the page shows except its charts, as texts and lists of texts."""
    ends = [run.reference, run.final]
    return {
        "title": f"{run.name} – Equipoise report",
        "heading": run.summary.title or run.name,
        "verdict": verdict(run),
        "facts": facts(run),
        "rounds": run.rounds,
        "headline": _rows(ends) if run.rounds else [],
        "every_round": _rows(run.rounds),
        "last_title": f"round {run.final.round}" if run.final else "last round",
        "findings": diagnose(run),
        "notes": run.notes,
        "of_pairs": _of_pairs(run.diagnosis),
        "matrix": matrix_of(run),
        "samples": sample_views(run),
        "samples_left_out": max(0, len({s.prompt_index for s in run.samples}) - MAX_PROMPTS),
        "gates": [(gate, plain_or_none(gate.measured), plain_or_none(gate.limit)) for gate in run.gates],
        "self_tests": self_tests(run.folder),
        "ledger": _ledger(run.ledger) if run.ledger else None,
        "costs": _costs(run),
        "command": _command(run.environment.get("command")),
        "again": _again(run),
        "config_text": cut(run.config_text, MAX_DOCUMENT),
        "environment": cut(_json(run.processes), MAX_DOCUMENT) if run.processes else "",
        "definitions": METRICS,
    }


def plain_or_none(value: float | None) -> str:
    """A number for a reader, or a dash."""
    return "–" if value is None else plain(value)


def cell(metric: Metric, record: Round | None) -> tuple[str, str]:
    """Value and interval of a metric in one round, as texts."""
    value = getattr(record, metric.name) if record else None
    if metric.name == "kl" and record and record.round == 0 and centre(value) is not None:
        return "0", ""  # of the reference to itself: what was sampled is rounding
    if isinstance(value, Estimate):
        return metric.show(value.value), metric.show_interval(value)
    return metric.show(value), ""


def _of_pairs(figures: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a diagnosis of the run's pairs says; the file is untrusted."""
    if figures is None:
        return None
    try:
        return findings_and_sheets(findings(figures), sheets(figures)) | {"about": shown(about(figures))}
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return {
            "about": f"{DIAGNOSIS} does not hold a diagnosis; write it again",
            "findings": [],
            "sheets": [],
        }


def _rows(rounds: Any) -> list[Row]:
    rows = [Row(metric, [cell(metric, one) for one in rounds]) for metric in ROUND_METRICS]
    return [row for row in rows if any(value != "–" for value, _ in row.cells)]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _command(command: Any) -> str:
    """The recorded command, given as one string or as a list of arguments."""
    if isinstance(command, list):
        command = shlex.join(str(part) for part in command)
    return cut(command, MAX_TEXT) if isinstance(command, str) else ""


def _again(run: Run) -> str:
    """A command that repeats the run from its own settings, without what the recorded one was given."""
    if not run.config.get("method"):
        return ""
    where = run.folder.resolve().name
    return shlex.join(["equipoise", "align", "--config", f"{where}/config.yaml", "--out", f"{where}-again"])


def _ledger(ledger: Ledger) -> dict[str, Any]:
    parts = [
        ("used", ledger.used, ""),
        *((f"refused: {k}", n, _first(ledger, k)) for k, n in ledger.refused.items()),
    ]
    if ledger.duplicate:
        parts.append(("duplicate", ledger.duplicate, _first(ledger, "duplicate")))
    besides = [("of the used: truncated", ledger.truncated)] if ledger.truncated else []
    besides += [(f"truncated {side}", n) for side, n in ledger.truncated_by_side.items()]
    besides += [(f"repaired: {what}", n) for what, n in ledger.repaired.items()]
    balance = "= the sum of the rows above"
    if ledger.unaccounted:
        word = "missing" if ledger.unaccounted > 0 else "too many"
        balance = f"does not balance: {abs(ledger.unaccounted):,} {word}"
    return {
        "parts": [(cut(what, 200), f"{n:,}", where) for what, n, where in parts],
        "read": f"{ledger.read:,}",
        "balance": balance,
        "besides": [(cut(what, 200), f"{n:,}") for what, n in besides],
        "notes": [cut(note, 500) for note in ledger.notes],
    }


def _first(ledger: Ledger, reason: str) -> str:
    return cut("; ".join(ledger.first_lines.get(reason, [])), 300)


def _costs(run: Run) -> list[tuple[str, str, str, str, str]]:
    """(phase, time, share of it, tokens, tokens per second), longest first."""
    seconds, tokens = run.by_phase("seconds"), run.by_phase("tokens")
    total = sum(seconds.values())
    rows = []
    for phase, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        count = tokens.get(phase) or 0
        rate = plain(count / spent) if count and spent > 0 else "–"
        share = percent(spent / total) if total > 0 else "–"
        rows.append((cut(phase, 60), duration(spent), share, f"{count:,.0f}" if count else "–", rate))
    return rows
