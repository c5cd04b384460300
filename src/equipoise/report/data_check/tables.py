"""Tables and sentences of a data check, shared by the terminal and the page: plain strings, not yet escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.report.data_check.check import Report
from equipoise.report.data_check.statistics import SHOWN_COUNTS
from equipoise.report.sheet import Sheet

QUANTILES = ("mean", "median", "p95", "max")


def sheets(report: Report) -> list[Sheet]:
    """The tables that have something to say about these data."""
    figures = report.figures
    found = [_lengths(figures["characters"], "characters")]
    found += [_lengths(figures["tokens"], "tokens")] if figures["tokens"] else []
    labels = figures["labels"]
    found.append(_counts("Labels", labels["counts"], "rows"))
    spread = {name: values for name, values in labels.items() if name != "counts" and values}
    columns = ("min", "p25", "median", "p75", "max")
    found.append(
        Sheet(
            "Values of the labels",
            ("value", *columns),
            [(name, *(f"{values[c]:g}" for c in columns)) for name, values in spread.items()],
        )
    )
    conversations = figures["conversations"]
    turns = {f"{count} turns" if count != "1" else "1 turn": n for count, n in conversations["turns"].items()}
    found.append(_counts("Turns of the prompt", turns, "rows"))
    found.append(_counts("Roles", conversations["roles"], "turns"))
    found.append(_counts("Rows", conversations["rows"], "rows"))
    found.append(_counts("System prompts, most frequent", conversations["systems"], "rows"))
    return [sheet for sheet in found if sheet.rows]


def _lengths(parts: Mapping[str, Mapping[str, float]], unit: str) -> Sheet:
    rows = [
        (part, *(f"{values[name]:,.{int(name == 'mean')}f}" for name in QUANTILES))
        for part, values in parts.items()
    ]
    return Sheet(f"Lengths in {unit}", ("part", *QUANTILES), rows)


def _counts(title: str, counts: Mapping[str, int], unit: str) -> Sheet:
    rows = [(name, f"{count:,}") for name, count in list(counts.items())[:SHOWN_COUNTS]]
    left = list(counts.values())[SHOWN_COUNTS:]
    return Sheet(title, ("", unit), [*rows, *([(f"{len(left):,} others", f"{sum(left):,}")] if left else [])])


def sentences(report: Report) -> list[str]:
    """What the figures say, in words."""
    figures = report.figures
    answers = ", ".join(
        f"{count} {'answer' if count == '1' else 'answers'} in {rows:,} rows"
        for count, rows in list(figures["answers_per_row"].items())[:SHOWN_COUNTS]
    )
    per_prompt = figures["rows_per_prompt"] or {"max": 0}
    said = [
        f"{figures['rows']:,} rows of kind {report.kind} ({report.space}, format {report.format}); "
        f"{figures['prompts']:,} different prompts; rows of one prompt: at most {per_prompt['max']:g}; {answers}"
    ]
    systems = figures["conversations"]
    if systems["with_system"]:
        said.append(
            f"system prompts: {systems['with_system']:,}, of which {systems['distinct_systems']:,} different"
        )
    if figures["length_bias"]:
        said.append(bias_sentence(figures["length_bias"], report.unit))
    return said


def bias_sentence(bias: Mapping[str, Any], unit: str) -> str:
    """The length bias in one sentence, with its interval where there is one."""
    share = bias["longer_wins"]
    interval = (
        ""
        if share["low"] is None
        else f", 95 % interval {100 * share['low']:.1f} to {100 * share['high']:.1f} %"
    )
    return (
        f"length bias, {bias['of']}: the longer one is better in {100 * share['value']:.1f} % "
        f"(ties half{interval}); median difference {bias['median_gap']:+g} {unit}"
    )
