"""Regret of learners on random adversarial linear MDPs: losses by coins, with known transitions or from own paths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.games.repeated.adversarial_mdp import (
    LinearMdp,
    PolicyOptimiser,
    best_value,
    occupancy,
    play_episodes,
)
from equipoise.games.repeated.simulator_free import OwnPaths, Schedule

PLANTED, BLOCKS = "planted", "blocks"
GAP = 0.48
BARRIER, REDUCED = "log barrier", "exponential weights, reduced estimates"
PLAIN = "exponential weights, plain estimates"
LEARNERS = {
    BARRIER: PolicyOptimiser(barrier=True, reduced=False),
    REDUCED: PolicyOptimiser(barrier=False, reduced=True),
    PLAIN: PolicyOptimiser(barrier=False, reduced=False),
}


def coins(kind: str, episodes: int, seed: int, *, steps: int, dimension: int) -> Float[Tensor, "K H d"]:
    """Weights of the losses, coins with means 1/2 +- GAP: one latent feature of each step has the low mean.

    planted  the same feature throughout;  blocks  another one in each quarter of the episodes

    Raises ValueError for another kind.
    """
    if kind not in (PLANTED, BLOCKS):
        raise ValueError(f"the adversary of an MDP is {PLANTED} or {BLOCKS}, got {kind!r}")
    draw = np.random.default_rng([seed, 2, episodes])
    best = draw.integers(dimension, size=steps)
    means = np.full((episodes, steps, dimension), 0.5 + GAP)
    quarter = np.arange(episodes) * 4 // episodes if kind == BLOCKS else np.zeros(episodes, dtype=int)
    for h in range(steps):
        means[np.arange(episodes), h, (best[h] + quarter) % dimension] = 0.5 - GAP
    return torch.from_numpy((draw.random(means.shape) < means).astype(float))


def uniform_regret(mdp: LinearMdp, weights: Float[Tensor, "R K H d"]) -> Float[Tensor, R]:
    """Regret of the uniform policy against the best fixed one."""
    policy = torch.full_like(mdp.features[..., 0], 1 / mdp.features.shape[3])
    losses = mdp.losses(weights.sum(dim=1))
    return (occupancy(mdp, policy) * losses).sum(dim=(1, 2, 3)) - best_value(mdp, losses)


def regret_of(
    mdp: LinearMdp, weights: Float[Tensor, "R K H d"], learner: PolicyOptimiser, seeds: Sequence[int]
) -> Float[Tensor, R]:
    """Regret with known transitions, in the tuning of K."""
    tuning = learner.tuning(mdp, [weights.shape[1]] * len(seeds))
    return play_episodes(mdp, weights, learner, tuning, seeds).regret


def regret_from_own_paths(
    mdp: LinearMdp, weights: Float[Tensor, "R K H d"], learner: PolicyOptimiser, seeds: Sequence[int]
) -> tuple[Float[Tensor, R], Schedule]:
    """Regret with unknown transitions, and the schedule of K that it was played in."""
    plan = Schedule.of(learner, mdp.features, weights.shape[1])
    own = OwnPaths(mdp.features, plan.width, plan.share, seeds)
    return play_episodes(mdp, weights, learner, plan.tuning, seeds, own).regret, plan
