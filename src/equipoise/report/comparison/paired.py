"""Paired differences of two runs: the same prompts and the same held-out pairs, one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from equipoise.core.intervals import UNBOUNDED, clustered_mean
from equipoise.report.run.readings import FEWEST_PAIRS, FEWEST_PROMPTS
from equipoise.report.run.records import Estimate, HeldPair, Run

Values = Mapping[int, float]  # of a prompt or a pair


def differences(first: Run, other: Run) -> dict[str, Estimate]:
    """Figure -> other less first, with the 95 % interval over what both were evaluated on, of their final rounds.

    Only figures whose single values the runs kept, and with an interval, which needs two prompts in common.
    """
    found: dict[str, Estimate] = {}
    for name, values in PAIRED.items():
        mine, theirs = values(first), values(other)
        common = sorted(mine.keys() & theirs.keys())
        clusters = _clusters(first, common) if name in OF_PAIRS else common
        if len(set(clusters)) < 2:
            continue
        bounds = UNBOUNDED if name == "length" else (-1.0, 1.0)
        moved = clustered_mean([theirs[key] - mine[key] for key in common], clusters, bounds=bounds)
        if moved["low"] is not None:
            found[name] = Estimate(value=moved["value"], low=moved["low"], high=moved["high"], n=len(common))
    return found


def in_words(name: str, first: str, other: str, moved: Estimate) -> str:
    """One sentence on a paired difference of win rates or accuracy."""
    low, high, value = moved.low or 0.0, moved.high or 0.0, moved.value or 0.0
    what = {"win_rate": "win rate against the reference", "accuracy": "held-out accuracy"}[name]
    over = f"{moved.n:,} {'held-out pairs' if name in OF_PAIRS else 'prompts'}"
    if (moved.n or 0) < (FEWEST_PAIRS if name in OF_PAIRS else FEWEST_PROMPTS):
        return f"{over} are too few to say whether {other} and {first} differ in their {what}."
    ends = f"95 % interval {points(low)} to {points(high)} points, paired over the same {over}"
    if low <= 0 <= high:
        return f"{other} and {first} are not told apart by their {what}: {points(value)} points, {ends}."
    return f"{other} has the {'higher' if value > 0 else 'lower'} {what} than {first}: {points(value)} points, {ends}."


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def shown(name: str, moved: Estimate) -> tuple[str, str]:
    """A paired difference and its interval, in a cell."""
    if name == "length":
        low, high, value = (
            f"{v or 0.0:+.1f}".replace("-", "−") for v in (moved.low, moved.high, moved.value)
        )
    else:
        low, high, value = (points(v or 0.0) for v in (moved.low, moved.high, moved.value))
    return value, f"{low} to {high}"


def _wins(run: Run) -> Values:
    return _by_prompt([(v.prompt_index, v.win) for v in run.verdicts if _final(run, v.round)])


def _lengths(run: Run) -> Values:
    return _by_prompt([(v.prompt_index, v.length) for v in run.verdicts if _final(run, v.round)])


def _by_prompt(values: Sequence[tuple[int, float | None]]) -> Values:
    found: dict[int, list[float]] = defaultdict(list)
    for prompt, value in values:
        if value is not None:
            found[prompt].append(value)
    return {prompt: fmean(known) for prompt, known in found.items()}


def _accurate(run: Run) -> Values:
    return {h.pair: (m > 0) + 0.5 * (m == 0) for h in _pairs(run) if (m := h.margin) is not None}


def _ranked(run: Run) -> Values:
    return {h.pair: h.ranked for h in _pairs(run) if h.ranked is not None}


def _pairs(run: Run) -> list[HeldPair]:
    return [pair for pair in run.held_out if _final(run, pair.round)]


def _clusters(run: Run, pairs: Sequence[int]) -> list[int]:
    prompt = {pair.pair: pair.prompt for pair in run.held_out}
    return [prompt[pair] for pair in pairs]


def _final(run: Run, round: int) -> bool:
    return run.final is not None and round == run.final.round


PAIRED: Mapping[str, Callable[[Run], Values]] = {
    "win_rate": _wins,
    "accuracy": _accurate,
    "ranking": _ranked,
    "length": _lengths,
}
OF_PAIRS = ("accuracy", "ranking")
