"""Logistic losses on the margin of log-ratios: DPO, label noise, target margins, token means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import softplus

from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.parts import margin
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Cdpo:
    """Conservative DPO: the logistic loss with smoothed labels.

        L = (1 - e) * softplus(-m) + e * softplus(m),
        m = beta * [ (log pi(y0) - log pi_ref(y0)) - (log pi(y1) - log pi_ref(y1)) ]

    Symbols:
    y0, y1       preferred and dispreferred response; log-probs are sums over response tokens.
    beta         inverse strength of the implicit reward, > 0.
    smoothing    e, the assumed probability that a label is flipped, in [0, 1/2].

    Gradient: through pi only.
    Properties: The unique minimiser for e > 0 is m* = log((1 - e)/e), the minimum the binary entropy H(e). Not unbiased
    for the clean loss.
    Raises: ValueError for parameters out of range.

    Source: E. Mitchell, "A note on DPO with noisy preferences" (2023), checked against the author's code.
    """

    beta: float = 0.1
    smoothing: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if not 0 <= self.smoothing <= 0.5:
            raise ValueError(f"smoothing must lie in [0, 0.5], got {self.smoothing!r}")

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        # softplus(m) = softplus(-m) + m, so one stable primitive serves both orders of the label
        return Losses(softplus(-m) + self.smoothing * m, margin=m)


def Dpo(*, beta: float = 0.1) -> Cdpo:
    """Direct preference optimisation: the logistic loss on the implicit-reward margin.

        L = softplus(-m) = -log sigma(m),   m = beta * [ log-ratio(y0) - log-ratio(y1) ]

    Properties: The case `smoothing=0` of `Cdpo`. At pi = pi_ref the loss is log 2; the gradient weights on the two
    log-probs are -beta*sigma(-m) and +beta*sigma(-m). Under Bradley-Terry labels with reward r and full support the
    minimiser is proportional to pi_ref * exp(r/beta).

    Source: Rafailov et al. 2023 (2305.18290), eq. 7; checked against the authors' code.
    """
    return Cdpo(beta=beta, smoothing=0.0)


@dataclass(frozen=True, kw_only=True)
class AsymmetricRdpo:
    """Robust DPO with different label-flip rates for the two orders of presentation.

        L = [ (1 - e') softplus(-m) - e softplus(m) ] / (1 - e - e') = softplus(-m) - e/(1 - e - e') m

    Symbols:
    m       beta [ log-ratio(y0) - log-ratio(y1) ].
    flip    e, the probability that the label of a pair is flipped, given that its TRUE order is the one observed here.
    other   e', the same for pairs of the opposite true order; e + e' < 1.

    Gradient: through pi only; not bounded below.
    Properties: For labels that depend on which response was shown first: rows in which the first one was chosen get
    (flip, other), the rows in which it was not get the two exchanged. Labels must be hard: an expectation over a
    label would use one pair of rates for both orders. Over the true label of either order the expected loss is that of
    DPO on clean labels. `flip = other` is `Rdpo`.
    Raises: ValueError for parameters out of range.

    Source: the correction for class-dependent label noise (Natarajan et al. 2013) applied to 2403.00409; DERIVED.
    """

    beta: float = 0.1
    flip: float = 0.1
    other: float = 0.2
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(flip=self.flip, other=self.other)
        if not self.flip + self.other < 1:
            raise ValueError(f"flip + other must be below 1, got {self.flip!r} + {self.other!r}")

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        return Losses(softplus(-m) - self.flip / (1 - self.flip - self.other) * m, margin=m)


@dataclass(frozen=True, kw_only=True)
class Rdpo:
    """Provably robust DPO: unbiased for the clean loss, given the rate of label flips.

        L = [ (1 - e) softplus(-m) - e softplus(m) ] / (1 - 2e) = softplus(-m) - e/(1 - 2e) m

    Symbols:
    m       beta [ log-ratio(y0) - log-ratio(y1) ]; log-probs are sums over response tokens.
    flip    e, the probability that a recorded label is flipped, in [0, 1/2).

    Properties: (1 - e) L(m) + e L(-m) = softplus(-m) for every m: the expectation over flips is DPO on clean labels,
    where conservative DPO is biased. The gradient weight beta [ sigma(-m) + e/(1 - 2e) ] never vanishes, so confident
    pairs are pushed forever: NOT bounded below, L/m -> -e/(1 - 2e). Stop early, or watch the KL. A wrong rate e'
    leaves a bias in proportion to (e - e')/(1 - 2e').
    Raises: ValueError for parameters out of range.

    Source: Ray Chowdhury et al. 2024 (2403.00409), checked against TRL's "robust".
    """

    beta: float = 0.1
    flip: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if not 0 <= self.flip < 0.5:
            raise ValueError(f"flip must lie in [0, 0.5), got {self.flip!r}")

    def __call__(self, scores: Scores) -> Losses:
        return AsymmetricRdpo(beta=self.beta, flip=self.flip, other=self.flip)(scores)


@dataclass(frozen=True, kw_only=True)
class RsoNorm:
    """RSO's sigmoid-norm loss: the logistic loss on log-ratios, for pairs from rejection sampling.

        L = softplus(-gamma [ log-ratio(y0) - log-ratio(y1) ])

    Symbols:
    gamma   inverse strength of the implicit reward, > 0; not tied to the temperature beta of RSO's sampler.

    Properties: The loss of `Dpo` with beta = gamma; RSO differs by its sampler.
    Raises: ValueError unless gamma > 0.

    Source: Liu et al. 2023 (2309.06657), section 3; the paper's text.
    """

    gamma: float = 0.05
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(gamma=self.gamma)

    def __call__(self, scores: Scores) -> Losses:
        return Dpo(beta=self.gamma)(scores)


@dataclass(frozen=True, kw_only=True)
class DpoNorm:
    """Length-normalised DPO: the logistic loss on mean token log-ratios.

        L = softplus(-beta [ log-ratio(y0)/|y0| - log-ratio(y1)/|y1| ])

    Symbols:
    |y|     number of scored tokens.
    beta    > 0, about the mean length times that of `Dpo`.

    Properties: The loss of `Dpo` on token means. The gradient weight of a token is beta/|y|, so that margins do not
    grow with length. With gamma = 0 and without the reference it is SimPO.
    Raises: ValueError unless beta > 0, or where the batch carries no lengths.

    Source: "sigmoid_norm" of TRL, read there; its beta of 5 is from Tulu 3 (2411.15124), RECALLED.
    """

    beta: float = 5.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)

    def __call__(self, scores: Scores) -> Losses:
        return Dpo(beta=self.beta)(scores.per_token())


@dataclass(frozen=True, kw_only=True)
class OffsetDpo:
    """DPO with a target margin: the chosen response must win by an offset.

        L = softplus(offset - m),    m = beta [ log-ratio(y0) - log-ratio(y1) ]

    Symbols:
    beta      inverse strength of the implicit reward, > 0.
    offset    in units of the implicit reward, >= 0; the same for every pair. `Odpo` has one for each.

    Gradient: through pi only.
    Properties: The weight sigma(offset - m) is one half at m = offset instead of m = 0: pairs are pushed further.
    offset = 0 is DPO.
    Raises: ValueError for parameters out of range.

    Source: Amini et al. 2024 (2402.10571), with a constant offset; RECALLED.
    """

    beta: float = 0.1
    offset: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(offset=self.offset)

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        return Losses(softplus(self.offset - m), margin=m)


@dataclass(frozen=True, kw_only=True)
class Odpo:
    """DPO with an offset: the better response must win by a margin that depends on its score.

        L = softplus(alpha log|r0 - r1| - m),    m = beta sign(r0 - r1) [ log-ratio(y0) - log-ratio(y1) ]

    Symbols:
    r       a score for each response (a reward model's, a rating); the higher one is preferred, no label is read.
    beta    inverse strength of the implicit reward, > 0.
    alpha   weight of the offset, > 0. A score difference of 1 has offset 0.

    Gradient: through pi only.
    Properties: Equal scores have an offset of minus infinity: the pair has no weight. Adding a constant to all
    scores changes nothing.
    Raises: ValueError for parameters out of range.

    Source: Amini et al. 2024 (2402.10571), the logarithmic offset, checked against the authors' code.
    """

    beta: float = 0.1
    alpha: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta, alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        apart = scores.rewards()[:, 0] - scores.rewards()[:, 1]
        m = apart.sign() * margin(scores, self.beta)
        return Losses(softplus(self.alpha * apart.abs().log() - m), margin=m)
