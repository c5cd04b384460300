"""Hinge losses: flat once a margin is met. SLiC, and RSO's forms with and without a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import relu

from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.parts import likelihood_loss, margin
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """The hinge loss on log-probs, without a reference.

        L = max(0, 1 - gamma [ log pi(y0) - log pi(y1) ])

    Symbols:
    gamma   > 0; the target margin is 1/gamma nats of summed log-probs.

    Properties: Zero loss and zero gradient once the margin is met, and 0 at the kink. Without a reference a long
    rejected response meets it from the start.
    Raises: ValueError unless gamma > 0.

    Source: Liu et al. 2023 (2309.06657), section 3, where it shows reward hacking; the paper's text.
    """

    gamma: float = 0.05
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(gamma=self.gamma)

    def __call__(self, scores: Scores) -> Losses:
        m = self.gamma * scores.gap()
        return Losses(relu(1 - m), margin=m)


@dataclass(frozen=True, kw_only=True)
class HingeNorm:
    """RSO's hinge-norm loss: the hinge loss on log-ratios to the reference.

        L = max(0, 1 - gamma [ log-ratio(y0) - log-ratio(y1) ])

    Symbols:
    gamma   > 0; a pair has zero loss once its log-ratios differ by 1/gamma nats.

    Properties: 1 at pi = pi_ref. Zero loss and zero gradient once the margin is met, and 0 at the kink.
    Raises: ValueError unless gamma > 0.

    Source: Liu et al. 2023 (2309.06657), section 3; checked against TRL's "hinge", whose beta is gamma.
    """

    gamma: float = 0.05
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(gamma=self.gamma)

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.gamma)
        return Losses(relu(1 - m), margin=m)


@dataclass(frozen=True, kw_only=True)
class Slic:
    """SLiC-HF: a hinge in nats on log-probs, and the likelihood loss of the chosen response.

        L = max(0, delta - log pi(y0) + log pi(y1)) - lam log pi(y0)

    Symbols:
    delta   target margin between summed log-probs, > 0.
    lam     weight of the likelihood loss, >= 0; sums, no token mean.

    Properties: delta times `Hinge` with gamma = 1/delta, and the likelihood loss. The paper regularises towards a
    target that may be another response; here it is the chosen one.
    Raises: ValueError for parameters out of range.

    Source: Zhao et al. 2023 (2305.10425), checked against HALOs.
    """

    delta: float = 1.0
    lam: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(delta=self.delta)
        not_negative(lam=self.lam)

    def __call__(self, scores: Scores) -> Losses:
        losses = Hinge(gamma=1 / self.delta)(scores)
        return Losses(self.delta * losses.value + self.lam * likelihood_loss(scores), **losses.metrics)
