"""Self-refinement (SPA): label smoothing for pairs with a small margin under the policy."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from equipoise.core.objectives.logistic import Cdpo
from equipoise.core.objectives.parts import margin
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Spa:
    """Spread preference annotation's refined loss: DPO where the margin is clear, conservative DPO where it is not.

        L = -(1 - a + a z) log sigma(m) - a (1 - z) log sigma(-m),    z = 1[ m > threshold ],
        m = beta [ log-ratio(y0) - log-ratio(y1) ]

    Symbols:
    y0, y1      preferred and dispreferred response, as the policy itself labelled them.
    beta        inverse strength of the implicit reward, > 0.
    smoothing   a, label smoothing of a doubtful pair, in [0, 1/2].
    threshold   margin up to which a pair counts as doubtful.

    Properties: z carries no gradient, so the loss jumps by a m at the threshold. z = 1 everywhere is `Dpo`, z = 0
    everywhere `Cdpo`. The paper has a = 0 in the first fifth of the steps and moves the threshold with the margins
    (their 10th percentile), computed from extrapolated logits; here all of these are constants, the margin is
    the policy's own, and with a threshold of 0 a pair is doubtful if the policy would order it the other way.
    Raises: ValueError for parameters out of range.

    Source: Kim et al. 2024 (2406.04412), checked against the authors' code; the constants here are ours.
    """

    beta: float = 0.1
    smoothing: float = 0.1
    threshold: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        Cdpo(beta=self.beta, smoothing=self.smoothing)
        if not isfinite(self.threshold):
            raise ValueError(f"threshold must be finite, got {self.threshold!r}")

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        doubtful = (m.detach() <= self.threshold).to(m)
        sure = Cdpo(beta=self.beta, smoothing=0.0)(scores).value
        return Losses(sure + self.smoothing * doubtful * m, margin=m, doubtful=doubtful)
