"""Best-of-N along a direction among several scores (directional preference alignment), to be imitated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import NamedScores, RunCache, needing
from equipoise.play.directions import direction_of
from equipoise.play.needs import ORACLE_WITH_NAMED_SCORES, Needs
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.score_scale import scale_of
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class BestAlong(Pairing):
    """The response that is best along its prompt's direction: argmax_k v . u(x, y_k), the first of equal ones.

    v    the direction that the players noted (`players.directed`); with others, equal weights of all scores.
    u    the oracle's named scores, with `normalise` in standard deviations of round 1: scores of other units have
         other ranges, and the paper brings all of them to 0 to 100.

    Source: Wang et al. 2024 (2402.18571), rejection-sampling fine-tuning.
    """

    normalise: bool = True
    parameters: ClassVar[tuple[str, ...]] = ("normalise",)
    needs: ClassVar[Needs] = ORACLE_WITH_NAMED_SCORES

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (NamedScores, RunCache) if self.normalise else (NamedScores,)

    def check(self, width: int) -> None:
        at_least(2, "a best response", width)

    def check_scores(self, names: Sequence[str]) -> None:
        if len(names) < 2:
            raise ValueError(f"a direction needs at least two scores, and it has {', '.join(names)}")

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        named = needing(world, NamedScores).named_scores(rows)
        scores = np.stack(list(named.values()))
        if self.normalise:
            scores = scale_of(world, state, rows, scores).gains(scores)
        along = np.einsum("ng,gnk->nk", direction_of(rows.attributes, tuple(named), len(rows)), scores)
        kept = replace(rows, attributes={**rows.attributes, **named}).columns([along.argmax(axis=1)])
        return replace(kept, reward=np.ones((len(kept), 1)))

    def describe(self) -> str:
        return "the best response along its prompt's direction"
