"""Scalar rewards of the oracle: a reward model's score, the share of tests that a program passes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import ResponseRewards, RunCache, needing
from equipoise.play.needs import ORACLE_WITH_SCORES, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.score_scale import scale_of
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World

MOMENTS = "reward-moments"


@dataclass(frozen=True, kw_only=True)
class ByReward(Pairing):
    """The oracle's scalar reward of every response, in place of a win rate.

        R(y) = clamp( (r(x, y) - m)/s, -cap, cap )

    r           the oracle's score.
    normalise   m and s are mean and standard deviation of r in round 1 (`score_scale`), so that a reward means the same
                in every round. Otherwise m = 0 and s = 1.
    cap         bound on the reward, > 0; infinity for none.

    RTO's released code normalises its reward model's scores in this way, by moments of the reward model's own training
    data, and clamps them to +-10.
    """

    normalise: bool = False
    cap: float = math.inf
    needs: ClassVar[Needs] = ORACLE_WITH_SCORES

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise ValueError(f"cap must be positive, got {self.cap!r}")

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (ResponseRewards, RunCache) if self.normalise else (ResponseRewards,)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        reward = needing(world, ResponseRewards).rewards(rows)
        if self.normalise:
            reward = scale_of(world, state, rows, reward[None], MOMENTS).gains(reward[None])[0]
        return replace(rows, reward=np.clip(reward, -self.cap, self.cap))

    def describe(self) -> str:
        how = " normalised and clamped" if self.normalise else ""
        return f"every response with its{how} reward"
