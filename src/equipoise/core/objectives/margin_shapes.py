"""Alternative losses of the log-ratio margin: EXO's reverse KL between labels, and the discovered loss DiscoPOP."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p
from typing import ClassVar

from torch import sigmoid
from torch.nn.functional import logsigmoid, softplus

from equipoise.core.numerics import bounded_exp
from equipoise.core.objectives.base import positive
from equipoise.core.objectives.parts import margin
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class ExoPair:
    """EXO on pairs: the REVERSE KL between the policy's preference and a smoothed label.

        L = KL( (sigma(m), sigma(-m)) || (1 - e, e) )
          = sigma(m) [ log sigma(m) - log(1 - e) ] + sigma(-m) [ log sigma(-m) - log e ]

    Symbols:
    m           beta [ log-ratio(y0) - log-ratio(y1) ].
    smoothing   e, the probability given to the other order, in (0, 1/2).

    Gradient: through pi only.
    Properties: Conservative DPO is the same KL with its arguments exchanged. Minimum 0 at m* = log((1 - e)/e), flat far
    from it on both sides; e = 0 would be infinite.
    Raises: ValueError for parameters out of range.

    Source: Ji et al. 2024 (2402.00856), eq. 16; checked against TRL's "exo_pair".
    """

    beta: float = 0.1
    smoothing: float = 0.001
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if not 0 < self.smoothing < 0.5:
            raise ValueError(f"smoothing must lie in (0, 0.5), got {self.smoothing!r}")

    def __call__(self, scores: Scores) -> Losses:
        m, e = margin(scores, self.beta), self.smoothing
        agree = sigmoid(m) * (logsigmoid(m) - log1p(-e))
        return Losses(agree + sigmoid(-m) * (logsigmoid(-m) - log(e)), margin=m)


@dataclass(frozen=True, kw_only=True)
class DiscoPop:
    """DiscoPOP: a blend of logistic and exponential loss, discovered by a language model.

        L = (1 - k) softplus(-m) + k e^-m,    k = sigma(m / temperature)

    Symbols:
    m             beta [ log-ratio(y0) - log-ratio(y1) ].
    temperature   width of the blend, > 0.

    Gradient: through pi only.
    Properties: (log 2 + 1)/2 at pi = pi_ref. NOT monotone: with the default temperature the loss rises through m = 0,
    so that the first step from the reference LOWERS the margin of a pair; it falls again from about m = 0.1 on.
    Raises: ValueError for parameters out of range.

    Source: Lu et al. 2024 (2406.08414), eq. 5; checked against TRL's "discopop". The slope is DERIVED.
    """

    beta: float = 0.1
    temperature: float = 0.05
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta, temperature=self.temperature)

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        logistic, exponential = sigmoid(-m / self.temperature), sigmoid(m / self.temperature)
        return Losses(logistic * softplus(-m) + exponential * bounded_exp(-m), margin=m)
