"""Preference losses between examples of one class (P2C): heads with bounded logits, consistency, diversity."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.dims import PerComparison
from equipoise.core.objectives.label_margins import MarginLoss
from equipoise.core.scores import Scores

Heads: TypeAlias = Float[Tensor, "B M"]
Classes: TypeAlias = Float[Tensor, "B C"]

LOGISTIC_PAIR = MarginLoss()  # one negative: the logistic loss of a pair


def preference_loss(first: Heads, second: Heads, prob: PerComparison) -> PerComparison:
    """Mean over M heads of the cross-entropy of P_m(x1 > x2) = sigma(g_m(x1) - g_m(x2)), [B].

    first, second   [B, M] bounded scores g of both examples, in (-1, 1): tanh outputs, so P lies in (0.119, 0.881).
    prob            [B] in [0, 1], that x1 is the better example of its class; a tie is 1/2.

    It is the pair loss of every preference objective with one negative, under soft labels.
    Source: Kim et al. 2023 (2306.04925), checked against the authors' code.
    """
    heads = first.shape[1]
    pairs = Scores(
        logp=torch.stack([first.flatten(), second.flatten()], dim=1), prob=prob.repeat_interleave(heads)
    )
    return reduce.expected(LOGISTIC_PAIR, pairs).value.view(-1, heads).mean(dim=1)


def consistency_loss(first: PerComparison, second: PerComparison, prob: PerComparison) -> PerComparison:
    """How far class probabilities p1, p2 of the label contradict the preference, [B].

        max(0, p2 - p1) if x1 is preferred (prob > 1/2),  max(0, p1 - p2) if x2 is,  |p1 - p2| at a tie

    0 exactly where the order of the probabilities agrees. Source: Kim et al. 2023 (2306.04925), the authors' code.
    """
    gap = first - second
    return torch.where(prob > 0.5, (-gap).relu(), torch.where(prob < 0.5, gap.relu(), gap.abs()))


def soft_consistency_loss(first: Classes, second: Classes, soft_1: Classes, soft_2: Classes) -> PerComparison:
    """Consistency with soft labels q, [B]: every class asks at least the difference that its soft labels have.

        sum_c  max(0, (q1 - q2) - (p1 - p2))  where q1 >= q2,   max(0, (q2 - q1) - (p2 - p1))  elsewhere

    Source: Kim et al. 2023 (2306.04925), checked against the authors' code.
    """
    asked, given = soft_1 - soft_2, first - second
    sign = torch.where(asked >= 0, 1.0, -1.0)
    return (sign * (asked - given)).relu().sum(dim=1)


def diversity(first: Heads, second: Heads) -> PerComparison:
    """Mean over ordered pairs of heads m != n of CE( P_m without gradient, P_n ), [B]; 0 for one head.

    It is subtracted from the loss: each head is pushed away from the others.
    Source: Kim et al. 2023 (2306.04925), checked against the authors' code.
    """
    heads = first.shape[1]
    if heads < 2:
        return torch.zeros_like(first[:, 0])
    told = torch.sigmoid(first - second).detach()
    others = [
        preference_loss(first[:, n, None], second[:, n, None], told[:, m])
        for m in range(heads)
        for n in range(heads)
        if m != n
    ]
    return torch.stack(others).mean(dim=0)


def disagreement(first: Heads, second: Heads) -> PerComparison:
    """Standard deviation of the heads' probabilities, [B]: which pairs are worth showing."""
    return torch.sigmoid(first - second).std(dim=1, unbiased=False)
