"""Preference oracles of segments: by regret (the sum of optimal advantages), or by partial return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from equipoise.play.state import Floats
from equipoise.worlds.scored.examples import Arrays, Indices
from equipoise.worlds.segments.segments import ACTIONS, OBSERVATIONS, REWARDS

By = Literal["regret", "partial_return"]
Advantage = Callable[[Floats, Floats], Floats]  # (observations, actions) -> A*


@dataclass(frozen=True)
class SegmentJudge:
    """P(first beats second) = sigma( k (u(first) - u(second)) )    (Knox et al. 2022, 2206.02231)

        by regret           u = sum_t A*(s_t, a_t)
        by partial return   u = sum_t r_t

    rationality   k > 0; infinite: the one with the larger u wins, and equal ones are a tie.
    """

    by: By
    advantage: Advantage | None = None
    rationality: float = np.inf

    def __post_init__(self) -> None:
        if self.by == "regret" and self.advantage is None:
            raise ValueError(
                "regret needs optimal advantages, which this world does not know; label by partial_return"
            )
        if not self.rationality > 0:
            raise ValueError(f"rationality must be positive, got {self.rationality!r}")

    @property
    def fingerprint(self) -> str:
        return f"segments by {self.by}, rationality {self.rationality:g}"

    def rewards(self, prompts: Indices, examples: Arrays) -> Floats:
        """[N] u of each segment."""
        if self.by == "partial_return":
            return np.asarray(examples[REWARDS], dtype=np.float64).sum(axis=-1)
        assert self.advantage is not None
        observations, actions = (np.asarray(examples[n], dtype=np.float64) for n in (OBSERVATIONS, ACTIONS))
        return np.asarray(self.advantage(observations, actions).sum(axis=-1))

    def prefer(self, prompts: Indices, first: Arrays, second: Arrays) -> Floats:
        ahead = self.rewards(prompts, first) - self.rewards(prompts, second)
        if np.isinf(self.rationality):
            return np.asarray((1 + np.sign(ahead)) / 2)
        return np.asarray(1 / (1 + np.exp(-np.clip(self.rationality * ahead, -500, 500))))
