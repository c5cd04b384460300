"""Refined regret (2301.12942): policy optimisation on adversarial MDPs with bandit feedback, sqrt(K) against K^(2/3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import (
    Array,
    Claim,
    Evidence,
    Line,
    Panel,
    Scale,
    Slope,
    Table,
    interval,
    log_slope,
    verdict,
)
from equipoise.games.adversarial_mdp import (
    LinearMdp,
    PolicyOptimiser,
    Run,
    covariance_inverse,
    occupancy,
    play_episodes,
    random_mdp,
    together,
)
from equipoise.games.regret import entropic, log_barrier

STEPS, STATES, ACTIONS, DIMENSION = 2, 3, 3, 3
BARRIER, REDUCED = "log barrier", "exponential weights, reduced estimates"
PLAIN, UNTUNED = "exponential weights, plain estimates", "the same, tuned as if refined"
LEARNERS = {
    BARRIER: PolicyOptimiser(barrier=True, reduced=False),
    REDUCED: PolicyOptimiser(barrier=False, reduced=True),
    PLAIN: PolicyOptimiser(barrier=False, reduced=False),
}
REFINED = (BARRIER, REDUCED)
PLANTED, BLOCKS = "planted", "blocks"
GAP = 0.4
EXACT = 1e-9
SEQUENCES, ROUNDS = 500, 40  # of losses, in the check of the lemma


def adversary(kind: str, episodes: int, seed: int) -> Array:
    """Weights [K, H, d] of the losses, coins with means 1/2 +- 1/4: one latent feature of each step has the low mean.

    planted  the same feature throughout;  blocks  another one in each quarter of the episodes
    """
    draw = np.random.default_rng([seed, 2, episodes])
    best = draw.integers(DIMENSION, size=STEPS)
    means = np.full((episodes, STEPS, DIMENSION), 0.5 + GAP)
    quarter = np.arange(episodes) * 4 // episodes if kind == BLOCKS else np.zeros(episodes, dtype=int)
    for h in range(STEPS):
        means[np.arange(episodes), h, (best[h] + quarter) % DIMENSION] = 0.5 - GAP
    return (draw.random(means.shape) < means).astype(float)


def runs(learner: PolicyOptimiser, kind: str, horizons: Sequence[int], seeds: Sequence[int]) -> Run:
    """The learner on each seed's MDP at each horizon, [seeds * horizons], horizons last."""
    cases = [(seed, episodes) for seed in seeds for episodes in horizons]
    mdp = together(
        [
            random_mdp(seed, steps=STEPS, states=STATES, actions=ACTIONS, dimension=DIMENSION)
            for seed, _ in cases
        ]
    )
    weights = torch.zeros(len(cases), max(horizons), STEPS, DIMENSION, dtype=torch.float64)
    for i, (seed, episodes) in enumerate(cases):
        weights[i, :episodes] = torch.from_numpy(adversary(kind, episodes, seed))
    tuning = learner.tuning(mdp, [episodes for _, episodes in cases])
    return play_episodes(mdp, weights, learner, tuning, [seed for seed, _ in cases])
