"""What findings rest on: figures at a run's ends, how many they are of, whether a difference is beyond noise."""

from __future__ import annotations

import math

from equipoise.report.numbers import percent
from equipoise.report.run.records import Estimate, Round, Run
from equipoise.report.run.round_charts import centre

# With 20 pairs the 95 % interval of a share is still 40 points wide: below, nothing is said of what they show.
FEWEST_PAIRS = 20
# The same of prompts, over which win rates are clustered.
FEWEST_PROMPTS = 10
# Steps of which a share is said.
FEWEST_STEPS = 10
# Rows of which a share is said.
FEWEST_ROWS = 20
# A difference of two shares of independent samples is beyond noise at this many standard errors (99 %).
NOISE = 2.6


def prompts_met(run: Run, final: Round) -> int | None:
    """Prompts on which a round met the reference; None where the verdicts were not kept."""
    return len({v.prompt_index for v in run.verdicts if v.round == final.round and v.win is not None}) or None


def too_few(number: int | None, fewest: int) -> bool:
    """Whether a number is known, and too small."""
    return number is not None and number < fewest


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def are(number: int) -> str:
    return "is" if number == 1 else "are"


def overlap(one: Estimate | None, other: Estimate | None) -> bool:
    """Whether two intervals are known and overlap, so that their difference may be noise."""
    ends = [end for each in (one, other) if each for end in (each.low, each.high)]
    if len(ends) < 4 or any(end is None for end in ends):
        return False
    low, high, low2, high2 = (end or 0.0 for end in ends)
    return low <= high2 and low2 <= high


def beyond_noise(before: float, after: float, number: int) -> bool:
    """Whether two shares of `number` samples each differ by more than sampling explains (pooled z test)."""
    pooled = (before + after) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / number)
    return abs(after - before) > NOISE * error


def range_of(estimate: Estimate) -> str:
    return f"{percent(estimate.low or 0.0)} to {percent(estimate.high or 0.0)}"


def ends_of(run: Run, name: str) -> tuple[float | None, float | None]:
    """The metric at the reference and at the last round; None where either was not measured."""
    if run.reference is None or run.final is None:
        return None, None
    return centre(getattr(run.reference, name)), centre(getattr(run.final, name))
