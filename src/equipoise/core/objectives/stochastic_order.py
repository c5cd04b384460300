"""Losses on the distribution of margins over a whole batch, not on each pair's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import context_of
from equipoise.core.objectives.logistic import Cdpo
from equipoise.core.scores import Losses, Scores


def of_same_rank(values: PerComparison, others: PerComparison, weight: PerComparison) -> PerComparison:
    """For each value the entry of `others` that has its rank.

    With unequal weights (the same for both) a rank is an interval of mass, and the entry the mean of the others'
    quantile function over it: the barycentre of what the monotone coupling assigns.
    """
    total = weight.double().sum()
    rank, other_rank = values.argsort(stable=True), others.argsort(stable=True)
    share = weight.double()[rank] / total
    end, mass = share.cumsum(0), (weight.double()[other_rank] / total).cumsum(0)
    ordered = others.double()[other_rank]
    # integral of the quantile function up to the end of each of the others' intervals, and before the first
    area = torch.cat([mass.new_zeros(1), (ordered * mass.diff(prepend=mass.new_zeros(1))).cumsum(0)])
    left = torch.cat([mass.new_zeros(1), mass])

    def integral(to: PerComparison) -> PerComparison:
        place = torch.searchsorted(mass, to).clamp(max=len(mass) - 1)
        return area[place] + (to - left[place]) * ordered[place]

    mean = (integral(end) - integral(end - share)) / share
    found = torch.empty_like(mean)
    found[rank] = torch.where(share > 0, mean, torch.zeros_like(mean))
    return found.to(values)


@dataclass(frozen=True, kw_only=True)
class Aot:
    """Alignment by optimal transport: the policy's margins are to dominate the reference's, rank by rank.

        L = (1 - e) softplus(-m) + e softplus(m),    m = beta [ gap_(r) - gap_ref_(r) ],   r the rank of the pair's gap

    gap_(r), gap_ref_(r)   the r-th smallest log pi(y0) - log pi(y1) of the whole batch, and of log pi_ref's.
    beta                   > 0.
    smoothing              e, in [0, 1/2].

    cDPO in which each pair meets the reference's margin of its own rank instead of its own reference margin: stochastic
    dominance of first order asks no more. A batch of one is cDPO. With unequal weights see `of_same_rank`. Pairs must
    stand preferred response first. Gradient through pi only; the ranks have none. Raises ValueError for parameters out
    of range.

    Source: Melnyk et al. 2024 (2406.05882), paired form; checked against TRL's code.
    """

    beta: float = 0.1
    smoothing: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    contextual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Cdpo(beta=self.beta, smoothing=self.smoothing)

    def context(self, scores: Scores, weight: PerComparison) -> PerComparison:
        return of_same_rank(scores.gap().detach(), scores.gap("reference"), weight)

    def __call__(self, scores: Scores) -> Losses:
        met = context_of(self, scores)
        anchor = torch.stack([met, torch.zeros_like(met)], dim=1)
        pair = Scores(logp=scores.logp[:, :2], anchors={"reference": anchor})
        return Cdpo(beta=self.beta, smoothing=self.smoothing)(pair)
