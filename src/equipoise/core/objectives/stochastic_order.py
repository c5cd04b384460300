"""Stochastic-dominance losses (AOT): on batch distributions of margins or log-ratios instead of single pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import softplus

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import batch_statistic_of
from equipoise.core.objectives.logistic import Cdpo
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


def of_same_rank(
    values: PerComparison,
    others: PerComparison,
    weight: PerComparison,
    other_weight: PerComparison | None = None,
) -> PerComparison:
    """Quantile matching: for each value the entry of `others` of the same rank; 0 for a value without weight.

    With unequal weights or numbers a rank is an interval of mass, and the entry is the mean of the others' quantile
    function over it: the barycentre of the monotone coupling.
    """
    own, other = (
        w.double() / w.double().sum() for w in (weight, weight if other_weight is None else other_weight)
    )
    rank, other_rank = values.argsort(stable=True), others.argsort(stable=True)
    share = own[rank]
    end, mass = share.cumsum(0), other[other_rank].cumsum(0)
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
    """Alignment by optimal transport: the policy's margins should dominate the reference's, rank by rank.

        L = (1 - e) softplus(-m) + e softplus(m),    m = beta [ gap_(r) - gap_ref_(r) ],   r the rank of the pair's gap

    Symbols:
    gap_(r), gap_ref_(r)   the r-th smallest log pi(y0) - log pi(y1) of the whole batch, and of log pi_ref's.
    beta                   > 0.
    smoothing              e, in [0, 1/2].

    Gradient: through pi only; the ranks have none.
    Properties: cDPO in which each pair meets the reference's margin of its own rank instead of its own reference
    margin: this suffices for first-order stochastic dominance. A batch of one is cDPO. With unequal weights see
    `of_same_rank`. Pairs must stand preferred response first.
    Raises: ValueError for parameters out of range.

    Source: Melnyk et al. 2024 (2406.05882), paired form; checked against TRL's code.
    """

    beta: float = 0.1
    smoothing: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(batch_statistic=True)

    def __post_init__(self) -> None:
        Cdpo(beta=self.beta, smoothing=self.smoothing)

    def batch_statistic(self, scores: Scores, weight: PerComparison) -> PerComparison:
        return of_same_rank(scores.gap().detach(), scores.gap("reference"), weight)

    def __call__(self, scores: Scores) -> Losses:
        met = batch_statistic_of(self, scores)
        anchor = torch.stack([met, torch.zeros_like(met)], dim=1)
        pair = Scores(logp=scores.logp[:, :2], anchors={"reference": anchor})
        return Cdpo(beta=self.beta, smoothing=self.smoothing)(pair)


@dataclass(frozen=True, kw_only=True)
class AotUnpaired:
    """Alignment by optimal transport on single responses: desirable ones should dominate the others by rank.

        L_up   = (1 - e) softplus(-m) + e softplus(m),    m = beta [ lr(y) - sg lr_down(r) ],   lr = log pi/pi_ref
        L_down = (1 - e) softplus(-m) + e softplus(m),    m = beta [ sg lr_up(r) - lr(y) ]

    Symbols:
    r           rank of lr(y) among the responses of its class in the whole batch; lr_down(r), lr_up(r) the log-ratio of
                that rank in the other class, without gradient. For classes of different sizes see `of_same_rank`.
    beta        > 0.    smoothing   e, in [0, 1/2].

    Properties: With n responses in each class, both members of a couple of equal rank count it: the mean over
    responses is the mean over couples, with half of its gradient. It is `Bco` with a shift per response: the other
    class's value at its rank. A soft label takes the mixture of both; a single class is compared with 0, the
    reference.
    Raises: ValueError for parameters out of range and labels outside [0, 1].

    Source: Melnyk et al. 2024 (2406.05882), unpaired form; checked against TRL's "aot_unpaired".
    """

    beta: float = 0.1
    smoothing: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(labels=True, batch_statistic=True)

    def __post_init__(self) -> None:
        Cdpo(beta=self.beta, smoothing=self.smoothing)

    def batch_statistic(self, scores: Scores, weight: PerComparison) -> PerComparison:
        ratio, label = scores.log_ratio("reference")[:, 0].detach(), scores.labels()
        up, down = weight * label, weight * (1 - label)
        if not (bool(up.any()) and bool(down.any())):
            return torch.zeros_like(ratio)
        met_up, met_down = (of_same_rank(ratio, ratio, *kinds) for kinds in ((up, down), (down, up)))
        return label * met_up + (1 - label) * met_down

    def __call__(self, scores: Scores) -> Losses:
        label, ratio, met = (
            scores.labels(),
            scores.log_ratio("reference")[:, 0],
            batch_statistic_of(self, scores),
        )
        above = self.beta * (ratio - met)
        up, down = softplus(-above) + self.smoothing * above, softplus(above) - self.smoothing * above
        value = label * up + (1 - label) * down
        return Losses(value, implicit_reward=self.beta * ratio, baseline=met)
