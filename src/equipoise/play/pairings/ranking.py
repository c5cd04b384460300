"""Pairs by rank: random matches and tournaments over all responses (RSO), neighbours in a ranking (OSP)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from equipoise.play.capabilities import RandomDraws, needing
from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import Scored, distinct
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World

Columns = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Matches(Pairing):
    """Random disjoint pairs with hard labels, likelier winner first; with `tournament`, a single-elimination bracket.

    K responses give K/2 pairs, or in a tournament K - 1: winners meet, two by two, until one is left; an odd one out
    gets a bye. A tie goes to the first of the two, in random order. Pairs of equal responses are left out. The random
    order also averages out a judge's position bias.

    Source: Liu et al. 2023 (2309.06657), "first-round-rank" and "tournament-rank"; the bracket is RECALLED.
    """

    tournament: bool = False
    parameters: ClassVar[tuple[str, ...]] = ("tournament",)

    needs: ClassVar[Needs] = ORACLE
    capabilities: ClassVar[tuple[type, ...]] = (RandomDraws,)

    def check(self, width: int) -> None:
        at_least(2, "matches", width)

    def comparisons(self, width: int) -> int:
        return width - 1 if self.tournament else width // 2

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        count = rows.responses.shape[1]
        self.check(count)
        draws = needing(world, RandomDraws).uniforms(state, "matches", rows.responses.size)
        order = draws.reshape(-1, count).argsort(axis=1)
        field, parts = list(order.T), []
        while len(field) > 1:
            won: list[Columns] = []
            for a, b in zip(field[::2], field[1::2], strict=False):
                wins = world.compare(rows, a, b) >= 0.5
                winner, loser = np.where(wins, a, b), np.where(wins, b, a)
                parts.append(rows.pair(winner, loser, np.ones(len(rows))))
                won.append(winner)
            field = won + field[2 * len(won) :]
            if not self.tournament:
                break
        return distinct(Rows.join(parts))

    def describe(self) -> str:
        return (
            "a single-elimination tournament of all"
            if self.tournament
            else "random disjoint pairs, the likelier winner first"
        )


@dataclass(frozen=True)
class Neighbours(Pairing):
    """Neighbours in the ranking by win rate within the prompt, with soft labels (OSP).

    K responses give K - 1 pairs, higher rank first; the label of each is the judge's probability that it wins, the
    strength of the preference, and may be below 1/2 for cyclic preferences. Pairs of equal responses are left out.
    K (K - 1)/2 comparisons rank them, K - 1 more label them.

    Source: 2405.14103; which pairs of the ranking are formed is RECALLED, neighbours are our choice.
    """

    needs: ClassVar[Needs] = ORACLE

    def check(self, width: int) -> None:
        at_least(2, "a ranking", width)

    def comparisons(self, width: int) -> int:
        return width - 1

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        scored = Scored().form(world, state, rows)
        ranked = list((-scored.rewards).argsort(axis=1, kind="stable").T)
        parts = [
            rows.pair(above, below, world.compare(rows, above, below)) for above, below in pairwise(ranked)
        ]
        return distinct(Rows.join(parts))

    def describe(self) -> str:
        return "neighbours in the ranking, labelled by the strength of the preference"
