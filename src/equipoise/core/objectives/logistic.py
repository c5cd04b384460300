"""Logistic losses on the margin of log-ratios: DPO and its label-smoothed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import softplus

from equipoise.core.objectives.base import positive
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Cdpo:
    """Conservative DPO: the logistic loss with smoothed labels.

        L = (1 - e) * softplus(-m) + e * softplus(m),
        m = beta * [ (log pi(y0) - log pi_ref(y0)) - (log pi(y1) - log pi_ref(y1)) ]

    y0, y1       preferred and dispreferred response; log-probs are sums over response tokens.
    beta         inverse strength of the implicit reward, > 0.
    smoothing    e, the assumed probability that a label is flipped, in [0, 1/2].

    Gradient through pi only. The unique minimiser for e > 0 is m* = log((1 - e)/e), the minimum the binary
    entropy H(e). Not unbiased for the clean loss. Raises ValueError for parameters out of range.

    Source: E. Mitchell, "A note on DPO with noisy preferences" (2023), checked against the author's code.
    """

    beta: float = 0.1
    smoothing: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if not 0 <= self.smoothing <= 0.5:
            raise ValueError(f"smoothing must lie in [0, 0.5], got {self.smoothing!r}")

    def __call__(self, scores: Scores) -> Losses:
        m = self.beta * (scores.gap() - scores.gap("reference"))
        # softplus(m) = softplus(-m) + m, so one stable primitive serves both orders of the label
        return Losses(softplus(-m) + self.smoothing * m, margin=m)


def Dpo(*, beta: float = 0.1) -> Cdpo:
    """Direct preference optimisation: the logistic loss on the implicit-reward margin.

        L = softplus(-m) = -log sigma(m),   m = beta * [ log-ratio(y0) - log-ratio(y1) ]

    The case `smoothing=0` of `Cdpo`. At pi = pi_ref the loss is log 2; the gradient weights on the two
    log-probs are -beta*sigma(-m) and +beta*sigma(-m). Under Bradley-Terry labels with reward r and full
    support the minimiser is proportional to pi_ref * exp(r/beta).

    Source: Rafailov et al. 2023 (2305.18290), eq. 7; checked against the authors' code.
    """
    return Cdpo(beta=beta, smoothing=0.0)
