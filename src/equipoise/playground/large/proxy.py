"""A reward learned from few comparisons: what over-optimisation needs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.playground.large.grammar import REQUESTS, split_of

SEED, PAIRS = 30, 300
RIDGE = 1e-3  # weight of half the squared norm beside the mean log-likelihood


def learned_reward(
    seen: Float[Tensor, "X A F"],
    gold: Float[Tensor, "X A"],
    reference: Float[Tensor, "X A"],
    pairs: int = PAIRS,
) -> Float[Tensor, "X A"]:
    """A Bradley-Terry reward, linear in the features `seen`, fitted to pairs that the gold reward labels.

    Pairs are drawn from the reference on training requests, their labels from sigma(gold(y) - gold(y')). With few pairs
    for its features the reward also fits the luck of the labels, most where the reference rarely goes: optimising it
    raises the gold reward first and lowers it later. Ridge regression by Newton's method, deterministic.
    """
    draw = torch.Generator().manual_seed(SEED)
    train = torch.tensor([i for i, request in enumerate(REQUESTS) if split_of(request) == "train"])
    x = train[torch.randint(len(train), (pairs,), generator=draw)]
    a, b = torch.multinomial(reference[x], 2, replacement=True, generator=draw).unbind(1)
    wins = torch.rand(pairs, generator=draw, dtype=torch.float64) < torch.sigmoid(gold[x, a] - gold[x, b])
    gaps, weight = seen[x, a] - seen[x, b], torch.zeros(seen.shape[2], dtype=torch.float64)
    for _ in range(20):
        prob = torch.sigmoid(gaps @ weight)
        gradient = gaps.T @ (wins.double() - prob) / pairs - RIDGE * weight
        slope = (gaps * (prob * (1 - prob))[:, None]).T @ gaps / pairs
        weight = weight + torch.linalg.solve(slope + RIDGE * torch.eye(len(weight)).double(), gradient)
    return seen @ weight
