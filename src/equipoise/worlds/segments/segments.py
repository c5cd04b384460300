"""Segments of trajectories: their score, the policy's own ones, and recorded ones cut from episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.worlds.scored.examples import Arrays, Indices
from equipoise.worlds.scored.task import Draw, Parameters
from equipoise.worlds.segments.environment import Environment, Trajectories
from equipoise.worlds.segments.heads import Head

# arrays of a segment: [T, O], [T, A] or [T], [T]
OBSERVATIONS, ACTIONS, REWARDS = "observations", "actions", "rewards"


@dataclass(frozen=True)
class SegmentScore:
    """Segment log-likelihood under a policy.

        S(segment) = sum_t log pi(a_t | s_t)

    in nats, undiscounted as in CPL's released code. Nothing is random: frozen policies are scored once.
    """

    head: Head
    fresh: ClassVar[bool] = False

    def __call__(
        self, parameters: Parameters, examples: Mapping[str, Tensor], prompts: Tensor, draw: Draw
    ) -> Tensor:
        return self.head.log_likelihood(parameters, examples[OBSERVATIONS], examples[ACTIONS]).sum(dim=-1)

    def lengths(self, examples: Mapping[str, Tensor]) -> Tensor:
        steps = examples[REWARDS].shape
        return torch.full(steps[:-1], float(steps[-1]))


@dataclass(frozen=True)
class SegmentSampler:
    """A policy's own segments of `steps` steps; a prompt is the seed of the state that they begin in."""

    environment: Environment
    head: Head
    steps: int

    def sample(self, parameters: Parameters, prompts: Indices, seed: int) -> Arrays:
        draw = np.random.Generator(np.random.Philox(seed))
        act = self.head.act(parameters, sampled=True)
        return arrays_of(self.environment.rollout(act, prompts.tolist(), self.steps, draw))


def arrays_of(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """Trajectories as examples, in single precision."""
    actions = trajectories.actions
    return {
        OBSERVATIONS: trajectories.observations.astype(np.float32),
        ACTIONS: actions.astype(np.int64 if np.issubdtype(actions.dtype, np.integer) else np.float32),
        REWARDS: trajectories.rewards.astype(np.float32),
    }


def cut(trajectories: Trajectories, steps: int) -> dict[str, np.ndarray]:
    """Consecutive segments of `steps` steps of every trajectory; a rest that is shorter, and what an episode does not
    live through, is left out."""
    count, length = trajectories.rewards.shape
    pieces = length // steps
    whole = trajectories.running[:, : pieces * steps].reshape(count * pieces, steps).all(axis=1)
    return {
        name: array[:, : pieces * steps].reshape(count * pieces, steps, *array.shape[2:])[whole]
        for name, array in arrays_of(trajectories).items()
    }
