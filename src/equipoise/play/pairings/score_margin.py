"""Pairs filtered by score thresholds (DNO-Prct), with a teacher's recorded response among the candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar

import numpy as np

from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import Scored
from equipoise.play.rows import Rows
from equipoise.play.state import START, State
from equipoise.play.world import World

POINTS = 6  # the judge's scale
ROUNDING = 1e-9  # tolerance of a threshold, for sums of win rates


@dataclass(frozen=True, kw_only=True)
class ScoreMargin(Pairing):
    """Pairs by score threshold, with hard labels: a winner of at least `high` points, a loser with clearly fewer.

        points(y) = 6 * (win rate of y against the other responses to the prompt)

    high         minimal points of a winner.
    margin       minimal lead over the loser, for a winner by the teacher (a recorded response).
    own_margin   the same for a winner sampled from a policy.

    The paper's judge sees all responses together and scores each on a 6-point scale; our oracles compare two, so the
    scale is that of win rates among all responses (DERIVED), with mean 3. A win rate above 5/6 is rarer than five
    points from a lenient judge: if no pair is left, lower `high`. Exact games take win rates against the policy
    itself. Raises ValueError for a margin that is not positive.

    Source: Rosset et al. 2024 (2404.03715), DNO-Prct. Their rule that a response with repeated n-grams always
    loses is left out: n is not stated in what we read.
    """

    high: float = 5.0
    margin: float = 2.0
    own_margin: float = 1.0
    parameters: ClassVar[tuple[str, ...]] = ("high", "margin", "own_margin")
    needs: ClassVar[Needs] = ORACLE

    def __post_init__(self) -> None:
        if not min(self.margin, self.own_margin) > 0:
            raise ValueError(f"margins must be positive, got {self.margin!r} and {self.own_margin!r}")

    def check(self, width: int) -> None:
        at_least(2, "pairs by score margin", width)

    def comparisons(self, width: int) -> int:
        return width * (width - 1) // 2

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        scored = Scored(against=START).form(world, state, rows)
        points = POINTS * scored.rewards
        parts = []
        for winner, loser in permutations(range(points.shape[1]), 2):
            margin = self.margin if rows.writers[winner] == "recorded" else self.own_margin
            lead = points[:, winner] - points[:, loser]
            clear = (points[:, winner] >= self.high - ROUNDING) & (lead >= margin - ROUNDING)
            chosen = scored.take(clear)
            columns = [np.full(len(chosen), column) for column in (winner, loser)]
            parts.append(chosen.pair(columns[0], columns[1], np.ones(len(chosen))))
        return replace(Rows.join(parts), writers=("mixed", "mixed"))

    def describe(self) -> str:
        return f"at least {self.high:g} of {POINTS} points against clearly fewer"
