"""A bandit whose best arm the reference rarely writes, and online preference learning on its growing data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch

from equipoise.claims.claim import Array
from equipoise.claims.draws import numpy_draws
from equipoise.claims.small_models import LinearSoftmax, always, descend, draw, kl_rows
from equipoise.core.dims import Strategy
from equipoise.core.objectives.base import Objective
from equipoise.games.expectation import Comparisons

GOOD, RARE = 0, 6  # the best arm, and how many arms are rare; the others are common
REWARDS = (
    2.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.25,
    0.5,
    0.75,
    1.0,
)  # Bradley-Terry; of the rare arms only one is good
ARMS = len(REWARDS)
BETA = 0.1
BOX = 2.0  # |beta log-ratio| <= BOX up to a constant: the bounded class of the theory; it holds the truth
Design: TypeAlias = Literal["with the reference", "own pairs"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """rounds of `pairs` labelled pairs each; after every round `steps` of Adam on all data so far, warm started."""

    seeds: int
    rounds: int
    pairs: int = 4
    steps: int = 40
    rate: float = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """lost [S, rounds + 1] J(pi*) - J(pi_t) in the KL-regularised value; good [S, rounds + 1] pi_t(best arm)."""

    lost: Array
    good: Array


def references(shares: Sequence[float], seeds: int) -> Strategy:
    """[len(shares) seeds, A] reference probabilities, `seeds` copies for each share of a rare arm."""
    rows = [[share] * RARE + [(1 - RARE * share) / (ARMS - RARE)] * (ARMS - RARE) for share in shares]
    return torch.tensor(rows, dtype=torch.float64).repeat_interleave(seeds, dim=0)


def optimum(reference: Strategy) -> Strategy:
    """log pi* = log of pi_ref exp(r/beta)/Z, the maximiser of J = E r - beta KL(pi||pi_ref)."""
    return (reference.log() + torch.tensor(REWARDS, dtype=torch.float64) / BETA).log_softmax(dim=1)


def learn(objective: Objective, reference: Strategy, plan: Plan, design: Design) -> Run:
    """Sample pairs, label them by Bradley-Terry, refit on everything; the third response is the reference's.

    design    "with the reference": y ~ pi_t against y' ~ pi_ref, which is also the third response (XPO);
              "own pairs": y, y' ~ pi_t and a third of its own ~ pi_ref (VPO).
    """
    copies, rng = len(reference), numpy_draws(1)
    rewards, anchor = np.array(REWARDS), reference.log()
    model = LinearSoftmax(
        reference=anchor.unsqueeze(1),
        features=torch.eye(ARMS, dtype=torch.float64).view(1, 1, ARMS, ARMS) / BETA,
    )
    theta, best = model.start(), optimum(reference)
    counts = torch.zeros(copies, ARMS, ARMS, ARMS, dtype=torch.float64)  # copy, winner, loser, third
    lost, good = [], []

    def note() -> Strategy:
        log_pi = model.log_probs(theta)
        lost.append(BETA * kl_rows(log_pi, best).numpy())  # J(pi*) - J(pi) = beta KL(pi||pi*)
        good.append(log_pi[:, GOOD].exp().numpy())
        return log_pi

    log_pi = note()
    for _ in range(plan.rounds):
        first = draw(log_pi.exp(), plan.pairs, rng)
        third = draw(reference, plan.pairs, rng)
        second = third if design == "with the reference" else draw(log_pi.exp(), plan.pairs, rng)
        wins = rng.random(first.shape) < 1 / (1 + np.exp(rewards[second] - rewards[first]))
        winner, loser = np.where(wins, first, second), np.where(wins, second, first)
        copy = np.repeat(np.arange(copies), plan.pairs)
        cells = tuple(torch.from_numpy(index.ravel()) for index in (copy, winner, loser, third))
        counts.index_put_(cells, torch.ones(len(copy), dtype=torch.float64), accumulate=True)
        feed = always(recorded(counts), reference=anchor)
        theta = descend(objective, model, theta, feed, steps=plan.steps, rate=plan.rate, bound=BOX)
        log_pi = note()
    return Run(lost=np.stack(lost, axis=1), good=np.stack(good, axis=1))


def recorded(counts: torch.Tensor) -> Comparisons:
    """(winner, loser, third) triples with their shares of each copy's data."""
    share = counts / counts.sum(dim=(1, 2, 3), keepdim=True)
    copy, *columns = share.nonzero(as_tuple=True)
    return Comparisons(copy, torch.stack(columns, dim=1), share[share > 0])
