"""Evaluation of control policies: returns of whole episodes with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equipoise.core.intervals import Interval, clustered_mean
from equipoise.play.seeds import Seeds
from equipoise.worlds.scored.task import Parameters
from equipoise.worlds.segments.environment import Environment
from equipoise.worlds.segments.heads import Head

RETURN, SAMPLED = "return", "sampled_return"


@dataclass(frozen=True)
class EpisodeReturns:
    """Undiscounted returns of episodes from seeded starts, the same for every policy.

    return           of the policy's mode: its mean, or its likeliest action
    sampled_return   of actions drawn from the policy
    """

    environment: Environment
    head: Head
    episodes: int = 50

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        return {RETURN: True, SAMPLED: True}

    def measure(self, parameters: Parameters, seed: int) -> Mapping[str, Interval]:
        return {
            name: self.returns(parameters, seed, sampled=sampled)
            for name, sampled in ((RETURN, False), (SAMPLED, True))
        }

    def returns(self, parameters: Parameters, seed: int, *, sampled: bool) -> Interval:
        """Mean return with its 95 % interval over episodes."""
        seeds = Seeds(seed)
        starts = [seeds("episode", number) for number in range(self.episodes)]
        act = self.head.act(parameters, sampled=sampled)
        found = self.environment.rollout(
            act, starts, self.environment.horizon, seeds.generator("actions", str(sampled))
        )
        return clustered_mean(found.returns, np.arange(self.episodes))
