"""The verdict on a run: one sentence at the head of its report."""

from __future__ import annotations

from equipoise.report.numbers import percent, plain
from equipoise.report.run.readings import (
    FEWEST_PAIRS,
    FEWEST_PROMPTS,
    are,
    counted,
    ends_of,
    prompts_met,
    range_of,
    too_few,
)
from equipoise.report.run.records import Round, Run


def verdict(run: Run) -> str:
    """One sentence: does it beat its reference, did it come nearer to equilibrium, does it prefer as the data do?"""
    final = run.final
    if final is None:
        return "Nothing has been trained yet: only the reference is described here."
    rounds = f"After {final.round} round{'s' if final.round != 1 else ''}"
    parts = [part for part in (_verdict_win(run, final), _verdict_gap(run)) if part]
    parts = parts or [part for part in (_verdict_pairs(final),) if part]
    return f"{rounds} the policy {' and '.join(parts)}." if parts else f"{rounds}: nothing was measured."


def _verdict_pairs(final: Round) -> str:
    """What held-out pairs say of a run without a judge."""
    share = final.accuracy
    if share is None or share.value is None or share.low is None or share.high is None:
        return ""
    if too_few(share.n, FEWEST_PAIRS):
        tried = counted(share.n or 0, "held-out pair")
        return f"was tried on {tried}, which {are(share.n or 0)} too few to say what it learnt"
    told = f"({percent(share.value)}, 95 % interval {range_of(share)})"
    if share.low > 0.5:
        return f"moved towards the preferred response on most held-out pairs {told}"
    if share.high < 0.5:
        return f"moved away from the preferred response on most held-out pairs {told}"
    return f"moved towards the preferred response on as many held-out pairs as chance would {told}"


def _verdict_win(run: Run, final: Round) -> str:
    rate = final.win_rate
    if rate is None or rate.value is None:
        exact = final.exact_win_rate
        return f"wins {percent(exact)} against its reference" if exact is not None else ""
    prompts = prompts_met(run, final)
    if too_few(prompts, FEWEST_PROMPTS):
        met = counted(prompts or 0, "prompt")
        few = f"which {are(prompts or 0)} too few to say which is better"
        return f"met its reference on {met}, {few} (win rate {percent(rate.value)})"
    if rate.low is None or rate.high is None:
        return f"wins {percent(rate.value)} of comparisons with its reference (no interval)"
    verb = "beats" if rate.low > 0.5 else "loses to" if rate.high < 0.5 else "cannot be told apart from"
    return f"{verb} its reference (win rate {percent(rate.value)}, 95 % interval {range_of(rate)})"


def _verdict_gap(run: Run) -> str:
    before, after = ends_of(run, "exploitability")
    if before is None or after is None:
        return ""
    if after == before:
        return f"is as exploitable as before ({plain(after)})"
    how = "less" if after < before else "more"
    return f"is {how} exploitable than before ({plain(before)} → {plain(after)})"
