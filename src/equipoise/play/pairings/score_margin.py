"""Pairs filtered by score thresholds (DNO-Prct), with a teacher's response among the candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar, Literal, get_args

import numpy as np

from equipoise.play.capabilities import ResponseRewards, ResponseTexts, needing
from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import Scored
from equipoise.play.rows import Rows
from equipoise.play.state import RECORDED, START, TAUGHT, Floats, State
from equipoise.play.world import World

POINTS = 6  # the judge's scale
ROUNDING = 1e-9  # tolerance of a threshold, for sums of win rates
Scale = Literal["win rates", "oracle"]


@dataclass(frozen=True, kw_only=True)
class ScoreMargin(Pairing):
    """Pairs by score threshold, with hard labels: a winner of at least `high` points, a loser with clearly fewer.

    high         minimal points of a winner.
    margin       minimal lead over the loser, for a winner by the teacher (a recorded response or `play.teacher`'s).
    own_margin   the same for a winner sampled from a policy.
    points       "win rates": 6 * (win rate of y against the other responses to the prompt); "oracle": the score that
                 the oracle gives to the response by itself, as an LLM judge with a 6-point scale does.
    ngram        a response that repeats a run of this many words is a loser against every winner and never a winner;
                 0: no such rule.

    The paper's judge sees all responses together and scores each on a 6-point scale. The scale of win rates is DERIVED,
    with mean 3; a win rate above 5/6 is rarer than five points from a lenient judge: if no pair is left, lower `high`.
    Exact games take win rates against the policy itself. Raises ValueError for a margin that is not positive, an
    unknown scale or a negative `ngram`.

    Source: Rosset et al. 2024 (2404.03715), DNO-Prct; the length of a repeated n-gram is ours.
    """

    high: float = 5.0
    margin: float = 2.0
    own_margin: float = 1.0
    points: Scale = "win rates"
    ngram: int = 10
    parameters: ClassVar[tuple[str, ...]] = ("high", "margin", "own_margin", "points", "ngram")
    needs: ClassVar[Needs] = ORACLE

    def __post_init__(self) -> None:
        if not min(self.margin, self.own_margin) > 0:
            raise ValueError(f"margins must be positive, got {self.margin!r} and {self.own_margin!r}")
        if self.points not in get_args(Scale):
            raise ValueError(f"points must be one of {', '.join(get_args(Scale))}, got {self.points!r}")
        if self.ngram < 0:
            raise ValueError(f"ngram must be a number of words, or 0 for no rule, got {self.ngram!r}")

    @property
    def capabilities(self) -> tuple[type, ...]:
        return ((ResponseRewards,) if self.points == "oracle" else ()) + (
            (ResponseTexts,) if self.ngram else ()
        )

    def check(self, width: int) -> None:
        at_least(2, "pairs by score margin", width)

    def comparisons(self, width: int) -> int:
        return width * (width - 1) // 2

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        points = self._points(world, state, rows)
        if self.ngram:
            texts = needing(world, ResponseTexts).texts(rows)
            points = np.where(
                [[repeats(text, self.ngram) for text in group] for group in texts], -np.inf, points
            )
        parts = []
        for winner, loser in permutations(range(points.shape[1]), 2):
            margin = self.margin if rows.writers[winner] in (RECORDED, TAUGHT) else self.own_margin
            won = points[:, winner] >= self.high - ROUNDING
            clear = won & (points[:, loser] <= points[:, winner] - margin + ROUNDING)
            chosen = rows.take(clear)
            columns = [np.full(len(chosen), column) for column in (winner, loser)]
            parts.append(chosen.pair(columns[0], columns[1], np.ones(len(chosen))))
        return replace(Rows.join(parts), writers=("mixed", "mixed"))

    def _points(self, world: World, state: State, rows: Rows) -> Floats:
        if self.points == "oracle":
            return needing(world, ResponseRewards).rewards(rows)
        return POINTS * Scored(against=START).form(world, state, rows).rewards

    def describe(self) -> str:
        scale = f"of {POINTS} points" if self.points == "win rates" else "points by the oracle"
        return f"at least {self.high:g} {scale} against clearly fewer"


def repeats(text: str, n: int) -> bool:
    """Whether a run of n words occurs more than once in a text."""
    words = text.split()
    runs = [tuple(words[begin : begin + n]) for begin in range(len(words) - n + 1)]
    return len(set(runs)) < len(runs)
