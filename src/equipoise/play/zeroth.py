"""Zeroth-order policy gradient (Zhang and Ying 2024, 2409.17401): a policy moved by comparisons, without a gradient.

A direction v is drawn, theta' = theta + mu v, and both policies answer the same prompts. With the link sigma,
P(y > y') = sigma(r(y) - r(y')), so

    D = E sigma^-1(P(y1 > y0)) = V(theta') - V(theta),    y1 ~ theta', y0 ~ theta,    V(theta) = E_theta r
    theta <- theta + alpha (d/mu) D v

and since E v v' = I/d the expected step is alpha times the gradient of V, smoothed over a ball of radius mu. Nothing
is differentiated and no reward is learned. The three choices below are one method: who writes, who votes, and
the step. Steps, link and trimming as the paper describes them; the constants are RECALLED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.core.links import bradley_terry_margin, thurstone_margin
from equipoise.core.objectives.base import positive
from equipoise.play.rows import Rows
from equipoise.play.updates import Anchors, Moved
from equipoise.play.world import POLICY, START, Floats, Nudged, State, World

if TYPE_CHECKING:
    from equipoise.play.method import Method

MARGINS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "bradley_terry": bradley_terry_margin,
    "thurstone": thurstone_margin,
}


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """`samples` responses per prompt by the policy moved mu along the round's direction, then as many by itself.

    mu      length of the perturbation, > 0.
    block   0: the direction is uniform on the unit sphere (ZPG); K: fair signs on K random coordinates (ZBCPG).
    """

    samples: int
    mu: float = 1.0
    block: int = 0
    parameters: ClassVar[tuple[str, ...]] = ("mu", "block")

    def write(self, world: World, state: State) -> Rows:
        rows = world.prompts(state)
        for who in (Nudged(scale=self.mu, block=self.block), START):
            rows = world.write(state, rows, who, self.samples)
        return rows

    def writing(self, samples: int) -> Perturbed:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} responses by the policy with a random nudge, {self.samples} by itself"


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Each response of the first half of the columns meets one of the second half, before M annotators.

    votes   M: the label is the share of M independent votes, each cast with the oracle's probability; 0: the
            probability itself, as of infinitely many. Nobody votes on a response against itself: 1/2.
    """

    votes: int = 0
    parameters: ClassVar[tuple[str, ...]] = ("votes",)

    def check(self, samples: int) -> None:
        pass

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        half, parts = rows.responses.shape[1] // 2, []
        for column in range(half):
            first, second = np.full(len(rows), column), np.full(len(rows), half + column)
            prob = world.compare(rows, first, second)
            if self.votes:
                names = [f"vote-{column}-{vote}" for vote in range(self.votes)]
                cast = np.mean([world.uniforms(state, name, len(rows)) < prob for name in names], axis=0)
                prob = np.where(rows.responses[:, column] == rows.responses[:, half + column], 0.5, cast)
            parts.append(rows.pair(first, second, prob))
        return Rows.join(parts)

    def describe(self) -> str:
        who = f"{self.votes} votes" if self.votes else "the oracle's probability"
        return f"the nudged policy's response against the policy's own, {who}"


@dataclass(frozen=True, kw_only=True)
class ZerothOrder:
    """theta + alpha (d/mu) D v, D = mean sigma^-1( P clipped to [trim, 1 - trim] ) over the round's comparisons.

    alpha   step size, > 0.
    mu, block   the direction's length and law, those of `Perturbed`.
    trim    keeps the inverse link of a unanimous vote finite, in (0, 1/2). Both trim and finitely many votes bias D;
            in a game that no reward explains, D is the mean log-odds of a win and not a difference of values.
    link    "bradley_terry" or "thurstone".
    """

    alpha: float = 0.1
    mu: float = 1.0
    block: int = 0
    trim: float = 0.02
    link: str = "bradley_terry"
    memory: ClassVar[tuple[str, ...]] = ()
    parameters: ClassVar[tuple[str, ...]] = ("alpha", "mu", "block", "trim", "link")

    def __post_init__(self) -> None:
        positive(alpha=self.alpha, mu=self.mu)
        if not 0 < self.trim < 0.5:
            raise ValueError(f"trim must lie in (0, 1/2), got {self.trim!r}")
        if self.link not in MARGINS:
            raise ValueError(f"link must be one of {', '.join(MARGINS)}, got {self.link!r}")
        if self.block < 0:
            raise ValueError(f"block must be a number of coordinates, or 0 for all, got {self.block!r}")

    def move(self, method: Method, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        v = Nudged(scale=self.mu, block=self.block)
        gain = world.average(rows, self.margins(rows))
        scale = self.alpha * world.dimension / self.mu * gain
        return {
            START: world.nudge(state, v.start, scale=scale, direction=v.direction, block=v.block, name=POLICY)
        }

    def margins(self, rows: Rows) -> Floats:
        """[N] what each comparison says of r(y1) - r(y0)."""
        if rows.prob is None:
            raise ValueError("a zeroth-order step needs judged comparisons")
        prob = torch.from_numpy(rows.prob).clamp(self.trim, 1 - self.trim)
        return MARGINS[self.link](prob).numpy()

    def describe(self) -> str:
        return "a step along a random direction, as long as comparisons say"
