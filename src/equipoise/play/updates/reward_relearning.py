"""Policy restarts whenever the reward model is relearned (RLP)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, REACHED, START, State
from equipoise.play.updates.basic import Descend
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Restarted(Update):
    """Any update, restarted from the initial policy every `every` rounds; the policy reached is kept as REACHED.

    What the update keeps from round to round, such as PPO's critic, begins again too, as in round 1: it knows the
    reward that is given up. What it had reached is kept as well, for a world may hold it in memory until the next fit.
    """

    base: Update = field(default_factory=Descend)
    every: int = 50
    parameters: ClassVar[tuple[str, ...]] = ("every",)

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, REACHED, *map(_reached, self.base.memory))

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        moved = self.base.move(method, world, state, rows, anchors)
        if state.round % self.every or state.round >= method.rounds:
            return moved
        begun = dict.fromkeys((START, *self.base.memory), state.policies[INITIAL])
        reached = {_reached(name): moved[name] for name in self.base.memory}
        return {**moved, **begun, **reached, REACHED: moved[START]}

    def describe(self) -> str:
        return f"{self.base.describe()}, restarted from the initial policy every {self.every} rounds"


def _reached(name: str) -> str:
    return f"{REACHED}-{name}"
