"""The report of a run: one self-contained page without scripts, network or external files."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.report.page import cut, render_page, write_page
from equipoise.report.run.diagnose import diagnose, verdict
from equipoise.report.run.figures import draw, write_figures
from equipoise.report.run.load import Estimate, Ledger, Round, Run, Sample, load_run
from equipoise.report.run.metrics import METRICS, ROUND_METRICS, Metric, duration, plain
from equipoise.report.run.self_tests import self_tests
from equipoise.report.run.within_fits import chosen

# A report is for reading: beyond these sizes the files themselves are the better place.
MAX_PROMPTS = 12
MAX_TEXT = 4_000
MAX_DOCUMENT = 60_000


@dataclass(frozen=True)
class Row:
    """One metric and its (value, interval) texts, one pair per column."""

    metric: Metric
    cells: list[tuple[str, str]]


def write_report(run_dir: str | Path) -> Path:
    """Read the run folder, write figures/*.png and report.html into it, and return the page's path.

    Each file is written whole or not at all. Raises RunFolderError if the folder cannot be read.
    """
    run = load_run(run_dir)
    pictures = draw(run)
    html = render_page("page.html.jinja", pictures=pictures, **page_context(run))
    write_figures(pictures, run.folder / "figures")
    return write_page(run.folder / "report.html", html)


def page_context(run: Run) -> dict[str, Any]:
    """Everything the page shows except its pictures, as texts and lists of texts."""
    ends = [run.reference, run.final]
    return {
        "title": f"{run.name} – Equipoise report",
        "heading": run.summary.title or run.name,
        "verdict": verdict(run),
        "facts": _facts(run),
        "rounds": run.rounds,
        "headline": _rows(ends) if run.rounds else [],
        "every_round": _rows(run.rounds),
        "last_title": f"round {run.final.round}" if run.final else "last round",
        "findings": diagnose(run),
        "notes": run.notes,
        "samples": _samples(run.samples),
        "samples_left_out": max(0, len({s.prompt_index for s in run.samples}) - MAX_PROMPTS),
        "gates": [(gate, plain_or_none(gate.measured), plain_or_none(gate.limit)) for gate in run.gates],
        "self_tests": self_tests(run.folder),
        "ledger": _ledger(run.ledger) if run.ledger else None,
        "costs": _costs(run),
        "command": _command(run.environment.get("command")),
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
    if isinstance(value, Estimate):
        return metric.show(value.value), metric.show_interval(value)
    return metric.show(value), ""


def _rows(rounds: Any) -> list[Row]:
    rows = [Row(metric, [cell(metric, one) for one in rounds]) for metric in ROUND_METRICS]
    return [row for row in rows if any(value != "–" for value, _ in row.cells)]


def _facts(run: Run) -> list[tuple[str, str]]:
    summary = run.summary
    pairs = [
        ("Method", run.name),
        ("Paper", summary.paper),
        ("Confidence", summary.confidence),
        ("Model", summary.model),
        ("Best checkpoint", chosen(run) or None),
        ("Data", summary.data),
        ("Oracle", summary.oracle),
        ("Rounds", summary.rounds),
        ("Delivered round", summary.delivered),
        ("Automatic settings", summary.automatic or None),
        ("Seed", summary.seed),
        ("Time", duration(sum(run.by_phase("seconds").values())) if run.by_phase("seconds") else None),
        ("Configuration", run.config.get("hash")),
    ]
    return [(name, cut(_text(value), 200)) for name, value in pairs if value is not None]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _command(command: Any) -> str:
    """The recorded command, given as one string or as a list of arguments."""
    if isinstance(command, list):
        command = shlex.join(str(part) for part in command)
    return cut(command, MAX_TEXT) if isinstance(command, str) else ""


def _samples(samples: tuple[Sample, ...]) -> list[dict[str, Any]]:
    shown = sorted({sample.prompt_index for sample in samples})[:MAX_PROMPTS]
    return [_sample(index, [s for s in samples if s.prompt_index == index]) for index in shown]


def _sample(index: int, written: list[Sample]) -> dict[str, Any]:
    responses = [
        {
            "who": "Reference" if sample.round == 0 else f"Round {sample.round}",
            "finished": sample.finished,
            "text": cut(sample.response, MAX_TEXT) or "(empty)",
        }
        for sample in written
    ]
    return {"index": index, "prompt": cut(written[0].prompt, MAX_TEXT), "responses": responses}


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


def _costs(run: Run) -> list[tuple[str, str, str, str]]:
    seconds, tokens = run.by_phase("seconds"), run.by_phase("tokens")
    rows = []
    for phase, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        count = tokens.get(phase) or 0
        rate = plain(count / spent) if count and spent > 0 else "–"
        rows.append((cut(phase, 60), duration(spent), f"{count:,.0f}" if count else "–", rate))
    return rows
