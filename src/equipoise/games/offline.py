"""Offline preference data over a finite game: populations, samples with given coverage, concentrability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from equipoise.core.dims import Payoff, PerPrompt, Strategy
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy


@dataclass(frozen=True, eq=False)
class PairData:
    """Offline data set of pairs: counts[x, i, j] is how often i was preferred to j for prompt x.

    Counts or probabilities, [X, A, A] and >= 0. Raises ValueError otherwise, or for a prompt without pairs.
    """

    counts: Payoff

    def __post_init__(self) -> None:
        table = self.counts.to(torch.float64)
        if table.ndim != 3 or table.shape[1] != table.shape[2]:
            raise ValueError(f"counts must be [prompts, actions, actions], got {tuple(table.shape)}")
        if not bool((table >= 0).all()) or not bool((table.sum(dim=(1, 2)) > 0).all()):
            raise ValueError("counts must be >= 0, with at least one pair per prompt")
        object.__setattr__(self, "counts", table)

    @property
    def size(self) -> PerPrompt:
        """Number (total weight) of pairs of each prompt, [X]."""
        return self.counts.sum(dim=(1, 2))

    @property
    def share(self) -> Payoff:
        """Distribution of (winner, loser) of each prompt, [X, A, A]."""
        return self.counts / self.size[:, None, None]

    @property
    def winner(self) -> Strategy:
        """w(y): fraction of pairs that y wins, [X, A]."""
        return self.share.sum(dim=2)

    @property
    def loser(self) -> Strategy:
        """l(y): fraction of pairs that y loses, [X, A]."""
        return self.share.sum(dim=1)

    @property
    def mu(self) -> Strategy:
        """Distribution of the recorded responses, winners and losers together: (w + l)/2."""
        return (self.winner + self.loser) / 2

    @property
    def support(self) -> torch.Tensor:
        """[X, A] bool: responses that occur in the data."""
        return self.mu > 0


def from_pairs(pairs: Sequence[tuple[int, int, int, float]], prompts: int, actions: int) -> PairData:
    """PairData of (prompt, winner, loser, weight) entries; repeated entries add up."""
    table = torch.zeros(prompts, actions, actions, dtype=torch.float64)
    for x, winner, loser, weight in pairs:
        table[x, winner, loser] += weight
    return PairData(table)


def stack(datasets: Sequence[PairData]) -> PairData:
    """Concatenate datasets along the prompt axis, so that one batched run handles all."""
    return PairData(torch.cat([data.counts for data in datasets]))


def population(game: PreferenceGame, mu: TabularPolicy, *, distinct: bool = True) -> PairData:
    """Population (infinite data set): y, y' i.i.d. from mu, labelled by P; each prompt has total weight 1.

    distinct    condition on y != y', as recorded pairs are (their marginal is then `PairData.mu`, not mu).
    """
    probs = mu.probs()
    joint = 2 * probs.unsqueeze(2) * probs.unsqueeze(1) * game.preference
    if distinct:
        joint = joint * (1 - torch.eye(game.actions, dtype=joint.dtype))
    return PairData(joint / joint.sum(dim=(1, 2), keepdim=True))


def sample_pairs(
    game: PreferenceGame, mu: TabularPolicy, n: int, seed: int, *, distinct: bool = True
) -> PairData:
    """Sample n pairs per prompt from `population(game, mu)`; the same seed gives the same data."""
    rng = np.random.default_rng(seed)
    share = population(game, mu, distinct=distinct).share
    drawn = [rng.multinomial(n, table.flatten().numpy()) for table in share]
    return PairData(torch.as_tensor(np.stack(drawn), dtype=torch.float64).view_as(share))


def concentrability(policy: TabularPolicy, mu: Any) -> PerPrompt:
    """Concentrability (single-policy coverage) C_pi = max_y pi(y)/mu(y) over pi's support, [X]; may be infinite.

    mu    [X, A] probabilities, e.g. `PairData.mu`.
    """
    probs = policy.probs()
    return torch.where(probs > 0, probs / torch.as_tensor(mu), torch.zeros_like(probs)).max(dim=1).values
