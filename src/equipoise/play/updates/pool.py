"""A pool of past iterates, of which one is drawn as the next round's reference (SePPO)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from equipoise.play.capabilities import RandomDraws, needing
from equipoise.play.rows import Rows
from equipoise.play.state import POOLED, START, Past, State, Who
from equipoise.play.updates.basic import Refit
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Pooled(Update):
    """Any update, after which the reference is drawn uniformly from a pool: the initial policy and that of every round.

    One draw holds for a whole round: the policy POOLED writes its samples and is its objective's anchor.
    """

    base: Update = field(default_factory=Refit)
    pool: Who = field(default_factory=Past)
    capabilities: ClassVar[tuple[type, ...]] = (RandomDraws,)

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, POOLED)

    @property
    def fits(self) -> bool:
        return self.base.fits

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        moved = self.base.move(method, world, state, rows, anchors)
        stored = [*state.past, state.policies[START], moved[START]]
        drawn = needing(world, RandomDraws).uniforms(state, "pool", 1)[0]
        return {**moved, POOLED: stored[int(drawn * len(stored))]}

    def describe(self) -> str:
        return f"{self.base.describe()}; the next reference is drawn from all past iterates"
