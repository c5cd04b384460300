"""Label-distributionally robust losses (LDR) and their adaptive form (ALDR): temperatures of examples in closed form.

LDR = max_p sum_k p_k d_k - lambda KL(p || uniform) = lambda log( (1/K) sum_k exp(d_k / lambda) )
d_k = f_k - f_y + c 1[k != y]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core.dims import PerCandidate, PerComparison
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.label_margins import label_margins, margin_loss


def normalised(scores: PerCandidate, *, positive_first: bool = True) -> PerCandidate:
    """Scores divided by their mean size, f / mean_k |f_k|, of each example [B, K]; the gradient passes through.

    positive_first   softplus(f) first, as the authors' code does; then the mean is that of positive numbers.
    """
    f = softplus(scores) if positive_first else scores
    return f / f.abs().mean(dim=1, keepdim=True).clamp(min=torch.finfo(f.dtype).tiny)


def ldr_loss(
    scores: PerCandidate, label: Tensor, temperature: float | PerComparison, margin: float = 0.0
) -> PerComparison:
    """LDR loss lambda log( (1/K) sum_k exp((f_k - f_y + c 1[k != y])/lambda) ) of every example, [B].

    scores        [B, K] f; carry the gradient.
    temperature   lambda > 0, one for all or [B].
    margin        c >= 0, in units of the scores.

    lambda = 1, c = 0: cross-entropy less log K. lambda -> 0: Crammer-Singer hinge max_k d_k. lambda -> inf: the mean
    margin (1/K) sum_k d_k, symmetric in the labels.
    Raises ValueError for a label outside 0..K-1, a temperature that is not positive, or a negative margin.

    Source: Zhu et al. 2023 (2112.14869), checked against the authors' code; the limits are DERIVED.
    """
    not_negative(margin=margin)
    whole = margin_loss(label_margins(scores, label), temperature=temperature, offset=margin, power=1.0)
    return whole - temperature * log(scores.shape[1])


def label_distribution(
    scores: PerCandidate, label: Tensor, temperature: float | PerComparison, margin: float = 0.0
) -> PerCandidate:
    """Label distribution p = softmax(d / lambda) that maximises LDR's inner problem, [B, K], in the labels' order."""
    d = _differences(scores, label, margin)
    t = torch.as_tensor(temperature, dtype=d.dtype, device=d.device)
    return (d / (t[:, None] if t.ndim else t)).softmax(dim=1)


def kl_from_uniform(p: PerCandidate) -> PerComparison:
    """KL(p || uniform) = log K + sum_k p_k log p_k of each row, in nats, in [0, log K]."""
    return log(p.shape[1]) + torch.special.xlogy(p, p).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Aldr:
    """Adaptive LDR: every example has its own lambda, which a quadratic term holds near lambda_0.

        max over p, lambda of  sum_k p_k d_k - lambda KL(p||u) - (alpha log K / (2 lambda_0)) (lambda - lambda_0)^2
        p <- softmax(d / lambda),    lambda <- lambda_0 ( 1 - KL(p||u) / (alpha log K) )

    centre   lambda_0 > 0, in units of the scores.
    alpha    > 1: lambda stays in ( lambda_0 (1 - 1/alpha), lambda_0 ].
    margin   c >= 0.

    Each update is the exact maximiser in its own argument, so a sweep never lowers the objective. Examples with peaked
    distributions get a small lambda, uncertain ones a large one.
    Raises ValueError for parameters out of range.

    Source: Zhu et al. 2023 (2112.14869), checked against the authors' code, which leaves the margin out of p; the true
    maximiser, used here, has it.
    """

    centre: float = 10.0
    alpha: float = 2.0
    margin: float = 0.1

    def __post_init__(self) -> None:
        positive(centre=self.centre)
        not_negative(margin=self.margin)
        if not 1 < self.alpha < float("inf"):
            raise ValueError(f"alpha must be above 1, got {self.alpha!r}")

    def updated(self, scores: PerCandidate, label: Tensor, temperature: PerComparison) -> PerComparison:
        """lambda of each example after one sweep (p, then lambda) from `temperature` [B]; without gradient."""
        p = label_distribution(scores.detach(), label, temperature, self.margin)
        return self.centre * (1 - kl_from_uniform(p) / (self.alpha * log(scores.shape[1])))

    def penalty(self, temperature: PerComparison, labels: int) -> PerComparison:
        """(alpha log K / (2 lambda_0)) (lambda - lambda_0)^2, [B]."""
        return self.alpha * log(labels) / (2 * self.centre) * (temperature - self.centre) ** 2

    def loss(self, scores: PerCandidate, label: Tensor, temperature: PerComparison) -> PerComparison:
        """The LDR loss at lambda = `temperature` [B], held fixed, less the quadratic term."""
        fixed = temperature.detach()
        return ldr_loss(scores, label, fixed, self.margin) - self.penalty(fixed, scores.shape[1])

    def inner(
        self, scores: PerCandidate, label: Tensor, p: PerCandidate, temperature: PerComparison
    ) -> PerComparison:
        """The maximised objective at any (p, lambda), [B]."""
        gain = (p * _differences(scores, label, self.margin)).sum(dim=1)
        return gain - temperature * kl_from_uniform(p) - self.penalty(temperature, scores.shape[1])


def _differences(scores: PerCandidate, label: Tensor, margin: float) -> PerCandidate:
    """d_k = f_k - f_y + c 1[k != y], [B, K]."""
    own = torch.zeros_like(scores).scatter(1, label[:, None], 1.0)
    return scores - scores.gather(1, label[:, None]) + margin * (1 - own)
