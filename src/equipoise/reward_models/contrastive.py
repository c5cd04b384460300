"""Contrastive terms added to a reward model's loss: SimCSE and SwAV on representations of preference pairs.

Both read two views of the same rows, [N, H] each: a body run twice with its dropout, or `dropout_views` of one run.
Source: Secrets of RLHF, part II (2401.06080), which adds L = L_rm + beta L_cl; beta is not known from its text.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, log_softmax, normalize

Representations: TypeAlias = Float[Tensor, "N H"]
On: TypeAlias = Literal["difference", "responses"]


def represented(chosen: Representations, rejected: Representations, on: On) -> Tensor:
    """What is contrasted: the pair's difference h(chosen) - h(rejected), [N, H], or both responses, [2N, H]."""
    if on == "difference":
        return chosen - rejected
    if on == "responses":
        return torch.cat([chosen, rejected])
    raise ValueError(f"contrast the pairs' 'difference' or the 'responses', got {on!r}")


def dropout_views(representations: Representations, rate: float) -> tuple[Tensor, Tensor]:
    """Two dropout views of one run's representations, for a body that has no dropout of its own.

    rate    share of coordinates set to 0, in (0, 1); the rest are scaled by 1/(1 - rate).
    """
    if not 0 < rate < 1:
        raise ValueError(f"the dropout of a contrastive view must lie in (0, 1), got {rate!r}")
    return dropout(representations, rate), dropout(representations, rate)


def simcse_loss(first: Representations, second: Representations, *, temperature: float = 0.05) -> Tensor:
    """SimCSE contrastive loss: each row's two views find each other among the batch's rows.

        -1/N sum_i log exp( cos(a_i, b_i)/t ) / sum_j exp( cos(a_i, b_j)/t )

    first, second    [N, H] views a, b.     temperature    t > 0; 0.05 in SimCSE (2104.08821).

    A single row has no negatives: 0. Rows that are all equal give log N. Raises ValueError for different shapes
    or t <= 0.
    """
    _check(first, second, temperature)
    cosine = normalize(first, dim=1) @ normalize(second, dim=1).T
    return cross_entropy(cosine / temperature, torch.arange(len(first), device=first.device))


class Swav(nn.Module):
    """SwAV contrastive loss: each view predicts the cluster that the other view was assigned to.

        p = softmax( cos(z, c)/t ),   q = Sinkhorn( exp( cos(z, c)/e ) )
        loss = -1/2N sum_i ( q_a . log p_b + q_b . log p_a )

    width, clusters    H of the representations, K >= 2 prototypes c, trained with the body.
    temperature        t > 0 of the predictions; 0.1 in SwAV (2006.09882).
    sharpness          e > 0 of the assignments, which carry no gradient; 0.05.
    rounds             Sinkhorn's rounds that spread the batch evenly over the clusters; 3.

    Raises ValueError for settings outside these ranges.
    """

    def __init__(
        self,
        width: int,
        clusters: int = 16,
        *,
        temperature: float = 0.1,
        sharpness: float = 0.05,
        rounds: int = 3,
    ) -> None:
        super().__init__()
        if clusters < 2 or not temperature > 0 or not sharpness > 0 or rounds < 1:
            raise ValueError(
                "SwAV needs two clusters, a positive temperature and sharpness and a round, got "
                f"{clusters}, {temperature!r}, {sharpness!r}, {rounds}"
            )
        self.prototypes = nn.Parameter(torch.randn(clusters, width) / width**0.5)
        self.temperature, self.sharpness, self.rounds = temperature, sharpness, rounds

    def forward(self, first: Representations, second: Representations) -> Tensor:
        _check(first, second, self.temperature)
        centres = normalize(self.prototypes, dim=1).to(first.dtype)
        a, b = (normalize(view, dim=1) @ centres.T for view in (first, second))
        loss_a = (
            balanced(a.detach() / self.sharpness, self.rounds) * log_softmax(b / self.temperature, 1)
        ).sum(1)
        loss_b = (
            balanced(b.detach() / self.sharpness, self.rounds) * log_softmax(a / self.temperature, 1)
        ).sum(1)
        return -(loss_a + loss_b).mean() / 2


def balanced(scores: Float[Tensor, "N K"], rounds: int) -> Float[Tensor, "N K"]:
    """Sinkhorn's assignment of N rows to K clusters of equal mass; each row sums to 1.

    scores    [N, K] log weights. More rounds bring the clusters' masses nearer to N/K; computed in logs.
    """
    logs = scores
    for _ in range(rounds):
        logs = logs - logs.logsumexp(dim=0, keepdim=True)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


def _check(first: Tensor, second: Tensor, temperature: float) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"two views must both be [rows, width]: {tuple(first.shape)}, {tuple(second.shape)}")
    if not temperature > 0:
        raise ValueError(f"a temperature must be positive, got {temperature!r}")
