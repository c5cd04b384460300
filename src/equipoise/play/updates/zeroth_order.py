"""Zeroth-order policy gradient (Zhang and Ying 2024, 2409.17401): policy updates from comparisons alone.

A direction v is drawn, theta' = theta + mu v, and both policies answer the same prompts. With the link sigma,
P(y > y') = sigma(r(y) - r(y')), so

    D = E sigma^-1(P(y1 > y0)) = V(theta') - V(theta),    y1 ~ theta', y0 ~ theta,    V(theta) = E_theta r
    theta <- theta + alpha (d/mu) D v

and since E v v' = I/d the expected step is alpha times the gradient of V, smoothed over a ball of radius mu. Nothing
is differentiated and no reward is learned. The method takes three components: `PerturbedPlayer`, `Votes` and the
update below. Steps, link and trimming as the paper describes them; the constants are RECALLED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry_margin, thurstone_margin
from equipoise.core.objectives.base import positive
from equipoise.play.capabilities import Perturbations, needing
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, Floats, Perturbation, State
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World

MARGINS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "bradley_terry": bradley_terry_margin,
    "thurstone": thurstone_margin,
}


@dataclass(frozen=True, kw_only=True)
class ZerothOrder(Update):
    """theta + alpha (d/mu) D v, D = mean sigma^-1( P clipped to [trim, 1 - trim] ) over the round's comparisons.

    alpha   step size, > 0.
    mu, block   the perturbation's norm and distribution, as in `PerturbedPlayer`.
    trim    keeps the inverse link of a unanimous vote finite, in (0, 1/2). Both trim and finitely many votes bias D;
            for preferences without a reward, D is the mean log-odds of a win and not a difference of values.
    link    "bradley_terry" or "thurstone".
    """

    alpha: float = 0.1
    mu: float = 1.0
    block: int = 0
    trim: float = 0.02
    link: str = "bradley_terry"
    parameters: ClassVar[tuple[str, ...]] = ("alpha", "mu", "block", "trim", "link")
    capabilities: ClassVar[tuple[type, ...]] = (Perturbations,)

    def __post_init__(self) -> None:
        positive(alpha=self.alpha, mu=self.mu)
        if not 0 < self.trim < 0.5:
            raise ValueError(f"trim must lie in (0, 1/2), got {self.trim!r}")
        if self.link not in MARGINS:
            raise ValueError(f"link must be one of {', '.join(MARGINS)}, got {self.link!r}")
        if self.block < 0:
            raise ValueError(f"block must be a number of coordinates, or 0 for all, got {self.block!r}")

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        v = Perturbation(scale=self.mu, block=self.block)
        space = needing(world, Perturbations)
        gain = space.average(rows, self.margins(rows))
        scale = self.alpha * space.dimension() / self.mu * gain
        return {
            START: space.perturb(
                state, v.start, scale=scale, direction=v.direction, block=v.block, name=POLICY
            )
        }

    def margins(self, rows: Rows) -> Floats:
        """[N] each comparison's estimate of r(y1) - r(y0)."""
        if rows.prob is None:
            raise ValueError("a zeroth-order step needs judged comparisons; use the pairing Votes")
        prob = torch.from_numpy(rows.prob).clamp(self.trim, 1 - self.trim)
        return MARGINS[self.link](prob).numpy()

    def describe(self) -> str:
        return "a zeroth-order step: along a random direction, with its length from comparisons"
