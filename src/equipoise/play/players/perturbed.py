"""Responses by the policy and by a random perturbation of it (zeroth-order methods)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from equipoise.play.capabilities import Perturbations
from equipoise.play.players.protocol import Players
from equipoise.play.rows import Rows
from equipoise.play.state import START, Perturbation, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class PerturbedPlayer(Players):
    """`samples` responses per prompt by the policy perturbed by mu v, then `samples` by the policy itself.

    mu      norm of the perturbation, > 0.
    block   0: v, the round's direction, is uniform on the unit sphere (ZPG); K: Rademacher signs on K random
            coordinates (ZBCPG).
    """

    samples: int
    mu: float = 1.0
    block: int = 0
    parameters: ClassVar[tuple[str, ...]] = ("mu", "block")
    capabilities: ClassVar[tuple[type, ...]] = (Perturbations,)

    @property
    def width(self) -> int:
        return 2 * self.samples

    def write(self, world: World, state: State) -> Rows:
        rows = world.prompts(state)
        for who in (Perturbation(scale=self.mu, block=self.block), START):
            rows = world.sample(state, rows, who, self.samples)
        return rows

    def writing(self, samples: int) -> PerturbedPlayer:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} responses by a randomly perturbed policy, {self.samples} by the policy itself"
