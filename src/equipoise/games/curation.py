"""Self-consuming training with curation on a finite game, in closed form (2407.09499).

A generator writes K samples, a curator keeps one of them by a Bradley-Terry choice, and the next generator is the
maximum-likelihood fit to what was kept, perhaps mixed with real data.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import exp, lgamma, log

import torch
from torch import Tensor

from equipoise.core.dims import Payoff, Strategy
from equipoise.games.offline import population
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy


def odds_of(reward: Strategy) -> Payoff:
    """Bradley-Terry log-odds r(y) - r(y') of rewards, [X, A, A]."""
    return reward[:, :, None] - reward[:, None, :]


def choice_weight(probs: Strategy, odds: Payoff, choices: int) -> Tensor:
    """Expected K-choice weight H_K, [X, A]: how often a response is kept, relative to how often it is written.

        H_K(y) = E_{y_1 .. y_{K-1} ~ pi} [ K e^{r(y)} / (e^{r(y)} + sum_i e^{r(y_i)}) ]

    probs     [X, A] pi, the generator.
    odds      [X, A, A] log-odds that y is preferred to y', antisymmetric; r(y) is their mean over the K samples, which
              for Bradley-Terry preferences (`odds_of`) is the reward up to a constant.
    choices   K >= 1, the samples of which one is kept.

    sum_y pi(y) H_K(y) = 1 and 0 < H_K < K for K > 1. The expectation is a sum over the C(A + K - 2, K - 1) multisets
    of K - 1 responses with their multinomial probabilities. Raises ValueError for K < 1.

    Source: Ferbach et al. 2024 (2407.09499), RECALLED; re-derived.
    """
    if choices < 1:
        raise ValueError(f"a choice is made of at least one sample, got {choices!r}")
    actions = probs.shape[1]
    own = torch.eye(actions, dtype=probs.dtype)
    total = torch.zeros_like(probs)
    for met in combinations_with_replacement(range(actions), choices - 1):
        counts = torch.bincount(torch.tensor(met, dtype=torch.long), minlength=actions).to(probs.dtype)
        ways = exp(lgamma(choices) - sum(lgamma(n + 1) for n in counts.tolist()))
        chance = ways * (probs**counts).prod(dim=1, keepdim=True)
        # [X, y, z] reward of z where y is the K-th sample
        reward = ((odds @ counts)[:, None, :] + odds.mT) / choices
        power = (reward - reward.amax(dim=2, keepdim=True)).exp()
        total += chance * choices * power.diagonal(dim1=1, dim2=2) / (power * (counts + own)).sum(dim=2)
    return total


def curated(probs: Strategy, odds: Payoff, choices: int, *, real: Strategy, share: float) -> Strategy:
    """[X, A] the next generator: (1 - share) pi H_K + share p_real.

    share     of real data, in [0, 1). In the paper's symbol share = 1/(1 + lambda).

    As K grows, pi H_K approaches pi e^r / E_pi e^r for Bradley-Terry preferences. Raises ValueError for a share out of
    range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of real data must lie in [0, 1), got {share!r}")
    kept = probs * choice_weight(probs, odds, choices)
    # rounding errors of the total would grow from round to round
    return (1 - share) * kept / kept.sum(dim=1, keepdim=True) + share * real


def self_consuming_step(
    game: PreferenceGame, policy: TabularPolicy, *, choices: int, gamma: float, real: float
) -> TabularPolicy:
    """A round of self-consuming training: `curated` by the game's log-odds, times gamma.

    real    share of real data: the preferred response of a pair drawn from the reference, as recorded pairs give.
    """
    wins = game.preference.clamp(1e-6, 1 - 1e-6)
    preferred = population(game, game.initial()).winner
    odds = gamma * (wins / (1 - wins)).log()
    return TabularPolicy.from_probs(curated(policy.probs(), odds, choices, real=preferred, share=real))


def divergence_bound(choices: int, share: float) -> float:
    """Bound -log(1 - lambda (K - 1)) on KL(p_t || p_real) in every round, in nats; infinite if lambda (K - 1) >= 1.

    lambda = (1 - share)/share is the number of curated samples for each real one, and the loop starts at p_real.
    """
    room = 1 - (1 - share) * (choices - 1) / share if share > 0 else 1.0 - float(choices > 1)
    return -log(room) if room > 0 else float("inf")
