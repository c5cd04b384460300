"""Verdict on a finished run in words: did it learn against its reference, is that significant, where does it write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.evaluate.support import NAME as SUPPORT
from equipoise.report.numbers import duration, percent, plain
from equipoise.report.run.diagnose import diagnose
from equipoise.report.run.load import Estimate, Round, Run, load_run
from equipoise.report.run.metrics import BY_NAME
from equipoise.safe_text import printable

COLUMNS = {
    "win_rate": "win rate",
    "exact_win_rate": "exact win rate",
    "accuracy": "held-out accuracy",
    "ranking": "ranking accuracy",
    "exploitability": "exploitability",
    "kl": "KL to the reference (nats)",
    "length": "length (tokens)",
    "finished": "finished responses",
}
TRIVIAL = (
    "win_rate",
    "exact_win_rate",
    "accuracy",
    "kl",
)  # known without measuring of a policy against itself
MOST_WARNINGS = 6
NOTHING = "–"


def print_closing(folder: Path, console: Console | None = None) -> None:
    """Print the verdict, the warnings, and what was measured before and after. Nothing of it is read as markup."""
    console = console or Console(highlight=False)
    run = load_run(folder)
    console.print(Text(" ".join(verdict(run)), style="bold"))
    warnings = [finding for finding in diagnose(run) if finding.level == "warning"]
    for finding in warnings[:MOST_WARNINGS]:
        console.print(Text(f"warning  {finding.title}: {printable(finding.sentence)}"))
    if len(warnings) > MOST_WARNINGS:
        console.print(Text(f"warning  {len(warnings) - MOST_WARNINGS} more in the report"))
    console.print(table(run))


def verdict(run: Run) -> Iterator[str]:
    """Sentences: what was learned against the reference and how sure that is, then where the policy writes."""
    final = run.final
    if final is None or final.round == 0:
        yield "Nothing has been trained: only the reference was evaluated."
        return
    yield _learned(final)
    left = run.summary.left_support
    if left is not None:
        yield f"It left the support of its reference ({printable(left)}), so the policy before that is delivered."
        return
    inside = [gate.passed for gate in run.gates if gate.name == SUPPORT and gate.round == final.round]
    where = {
        True: "It stays within the support of its reference",
        False: "It left the support of its reference",
    }
    far = final.kl.value if final.kl is not None else None
    distance = "" if far is None else f"{plain(max(0.0, far))} nats of KL from it"
    if inside:
        yield where[inside[-1]] + (f", {distance}." if distance else ".")
    elif distance:
        yield f"It is {distance}."


def _learned(final: Round) -> str:
    if final.win_rate is not None and final.win_rate.value is not None:
        return _against(final.win_rate, final.win_rate.value)
    if final.exact_win_rate is not None:
        verb = "beats" if final.exact_win_rate > 0.5 else "does not beat"
        return f"The policy {verb} its reference: it wins {percent(final.exact_win_rate)}, computed exactly."
    if final.accuracy is not None and final.accuracy.value is not None:
        return _of_pairs(final.accuracy, final.accuracy.value)
    return (
        "Nothing that was measured says whether it learned: hold out labelled pairs (data.held_out, data.evaluation) "
        "or name a judge (--oracle)."
    )


def _against(rate: Estimate, value: float) -> str:
    said = f"win rate {percent(value)}{_bounds(rate)}"
    if rate.low is None or rate.high is None:
        return f"Whether the policy beats its reference is not known: {said}, from too few prompts for an interval."
    if rate.low > 0.5:
        return f"The policy beats its reference: {said}, significant at 5 %."
    if rate.high < 0.5:
        return f"The policy loses to its reference: {said}, significant at 5 %."
    return f"The policy is not told apart from its reference: {said}, which includes 50 %; more prompts would tell."


def _of_pairs(accuracy: Estimate, value: float) -> str:
    count = f"{accuracy.n:,} held-out pairs" if accuracy.n else "held-out pairs"
    said = f"it ranks {percent(value)}{_bounds(accuracy)} of {count} as they were labelled"
    if accuracy.low is None or accuracy.high is None:
        return f"Whether it learned the preferences is not known: {said}, too few for an interval."
    if accuracy.low > 0.5:
        return f"The policy learned the preferences: {said}, significantly above chance."
    if accuracy.high < 0.5:
        return f"The policy learned the opposite of the preferences: {said}, significantly below chance."
    return (
        f"It cannot be said that the policy learned the preferences: {said}, too few to tell it from chance."
    )


def _bounds(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" (95 % interval {100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def table(run: Run) -> Table:
    """What was measured before training and after the last round; nothing that holds no figure."""
    before, after = run.reference, run.final
    rows = [
        (title, NOTHING if name in TRIVIAL else _shown(before, name), _shown(after, name))
        for name, title in COLUMNS.items()
    ]
    kept = [row for row in rows if row[2] != NOTHING]
    spent = run.by_phase("seconds")
    seconds, evaluating = sum(spent.values()), spent.get("evaluating", 0.0)
    if seconds:
        of_it = f", evaluation {percent(evaluating / seconds)} of it" if evaluating else ""
        kept.append(("time", NOTHING, duration(seconds) + of_it))
    first = any(row[1] != NOTHING for row in kept)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    made.add_column("")
    for heading in ("before", "after") if first else ("after",):
        made.add_column(heading, justify="left", overflow="fold")
    for title, start, end in kept:
        made.add_row(Text(title), *([Text(start if start != NOTHING else "")] if first else []), Text(end))
    return made


def _shown(record: Round | None, name: str) -> str:
    value = getattr(record, name, None)
    metric = BY_NAME[name]
    if not isinstance(value, Estimate):
        return metric.show(value)
    bounds = metric.show_interval(value)
    return metric.show(value.value) + (f"  ({bounds})" if bounds else "")
