"""Self-refinement (SPA): label smoothing for the pairs with the smallest margins of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import batch_statistic_of, positive
from equipoise.core.objectives.logistic import Cdpo
from equipoise.core.objectives.parts import margin
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Spa:
    """Spread preference annotation's refined loss: DPO where the margin is clear, conservative DPO where it is not.

        L = -(1 - a + a z) log sigma(m) - a (1 - z) log sigma(-m),    z = 1[ d > tau ]
        m = beta [ lr(y0) - lr(y1) ],    d = beta [ lr~(y0) - lr~(y1) ],    lr(y) = log pi(y) - log pi_ref(y)
        log pi~ from the logits mix z_pi + (1 - mix) z_ref of every token

    Symbols:
    y0, y1      preferred and dispreferred response, as the policy itself labelled them.
    beta        inverse strength of the implicit reward, > 0.
    smoothing   a, label smoothing of a doubtful pair, in [0, 1/2].
    share       of the step's pairs that count as doubtful, in [0, 1]: tau is this quantile of d over the step.
    mix         >= 1, extrapolation of the logits beyond the policy, away from the reference; 1: the policy's own.

    d and tau carry no gradient, so the loss jumps by a m at the threshold. Of n pairs of equal weight tau is the mean
    of the two with n share and n share + 1 smaller ones (rounded down). Where a response is one token, as in an exact
    game, d follows from the log-probs: the normaliser cancels.
    Properties: share = 0 or smoothing = 0 is `Dpo`, share = 1 is `Cdpo`. Where all d are equal, as at the reference,
    every pair is doubtful; the authors begin with smoothing 0 for that reason.
    Raises: ValueError for parameters out of range.

    Source: Kim et al. 2024 (2406.04412), checked against the authors' code, which takes the quantile over the last 50
    pairs of earlier steps instead of the pairs of this step.
    """

    beta: float = 0.1
    smoothing: float = 0.1
    share: float = 0.1
    mix: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2

    def __post_init__(self) -> None:
        Cdpo(beta=self.beta, smoothing=self.smoothing)
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must lie in [0, 1], got {self.share!r}")
        positive(mix=self.mix)
        if self.mix < 1:
            raise ValueError(f"mix must be at least 1, the policy itself, got {self.mix!r}")

    @property
    def reads(self) -> Reads:
        return Reads(batch_statistic=True, extrapolated=("reference",) if self.mix != 1 else ())

    def batch_statistic(self, scores: Scores, weight: PerComparison) -> PerComparison:
        """[B] by how much the margin d of the labelled order exceeds tau, with the sign of the label."""
        found = scores.extrapolated_by("reference", self.mix)
        ahead = self.beta * (found[:, 0] - found[:, 1] - scores.gap("reference")).detach()
        label = torch.ones_like(ahead) if scores.prob is None else (scores.prob >= 0.5).to(ahead) * 2 - 1
        clear = label * ahead
        if self.share in (0, 1):
            return label * (1 if self.share == 0 else -1)
        return label * (clear - quantile(clear, weight.to(clear), self.share))

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        doubtful = (batch_statistic_of(self, scores) <= 0).to(m)
        sure = Cdpo(beta=self.beta, smoothing=0.0)(scores).value
        return Losses(sure + self.smoothing * doubtful * m, margin=m, doubtful=doubtful)


def quantile(values: PerComparison, weight: PerComparison, share: float) -> torch.Tensor:
    """The mean of the two neighbouring values between which a share of the weight lies below."""
    order = values.argsort()
    below = weight[order].cumsum(dim=0) <= share * weight.sum() * (1 + 1e-12)
    first = min(int(below.sum()), len(values) - 1)
    return (values[order[first]] + values[order[min(first + 1, len(values) - 1)]]) / 2
