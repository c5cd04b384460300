"""Annotator votes on a perturbed policy against the policy itself (zeroth-order methods)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import RandomDraws, needing
from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Votes(Pairing):
    """Majority shares of M annotators: each response of the first half of the columns against one of the second half.

    votes   M: the label is the fraction of M independent votes, each drawn with the oracle's probability; 0: the
            probability itself, the limit of many votes. A response against itself gets 1/2 without a vote.
    """

    votes: int = 0
    parameters: ClassVar[tuple[str, ...]] = ("votes",)
    needs: ClassVar[Needs] = ORACLE

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (RandomDraws,) if self.votes else ()

    def check(self, width: int) -> None:
        if width < 2 or width % 2:
            raise ValueError(f"votes need an even number of responses per prompt, got {width}")

    def comparisons(self, width: int) -> int:
        return width // 2

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        half, parts = rows.responses.shape[1] // 2, []
        for column in range(half):
            first, second = np.full(len(rows), column), np.full(len(rows), half + column)
            prob = world.compare(rows, first, second)
            if self.votes:
                draws = needing(world, RandomDraws)
                names = [f"vote-{column}-{vote}" for vote in range(self.votes)]
                cast = np.mean([draws.uniforms(state, name, len(rows)) < prob for name in names], axis=0)
                prob = np.where(rows.responses[:, column] == rows.responses[:, half + column], 0.5, cast)
            parts.append(rows.pair(first, second, prob))
        return Rows.join(parts)

    def describe(self) -> str:
        who = f"{self.votes} votes" if self.votes else "the oracle's probability"
        return f"the perturbed policy's response against the policy's own, {who}"
