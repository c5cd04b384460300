"""The matrix of win rates: the policy of every round against that of every other."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.report.numbers import percent
from equipoise.report.run.records import Estimate, Run

SHADES = 10  # classes of the style sheet, from loses always to wins always


@dataclass(frozen=True)
class Cell:
    """One win rate in words; `shade` is its place among SHADES, None on the diagonal or where it is not known."""

    text: str
    interval: str = ""
    shade: int | None = None


@dataclass(frozen=True)
class Matrix:
    """Rounds, and for each of them its cells against all of them; `exact` where every response was enumerated."""

    rounds: tuple[int, ...]
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]
    exact: bool


def matrix_of(run: Run) -> Matrix | None:
    """The win rates that the run measured, with those against the reference; None for fewer than three policies.

    P(a beats b) = 1 - P(b beats a), so that half of them give all.
    """
    known: dict[tuple[int, int], Estimate] = {(one.round, one.against): one.win_rate for one in run.matrix}
    exact = bool(known) and all(rate.low is None for rate in known.values())
    if known and not exact:
        for one in run.rounds:
            if one.round and one.win_rate and one.win_rate.value is not None:
                known.setdefault((one.round, 0), one.win_rate)
    rounds = tuple(sorted({number for pair in known for number in pair}))
    if len(rounds) < 3:
        return None
    rows = tuple((a, tuple(_cell(known, a, b) for b in rounds)) for a in rounds)
    return Matrix(rounds, rows, exact)


def _cell(known: dict[tuple[int, int], Estimate], a: int, b: int) -> Cell:
    rate = known.get((a, b)) or _turned(known.get((b, a)))
    if a == b or rate is None or rate.value is None:
        return Cell("–")
    shade = min(SHADES - 1, max(0, int(rate.value * SHADES)))
    ends = rate.low is not None and rate.high is not None
    interval = f"{percent(rate.low or 0.0).removesuffix(' %')}–{percent(rate.high or 0.0)}" if ends else ""
    return Cell(percent(rate.value), interval, shade)


def _turned(rate: Estimate | None) -> Estimate | None:
    """The win rate of the other side."""
    if rate is None or rate.value is None:
        return None
    return Estimate(
        value=1 - rate.value,
        low=None if rate.high is None else 1 - rate.high,
        high=None if rate.low is None else 1 - rate.low,
        n=rate.n,
    )
