"""Pair losses without a reference policy, on log-probs or their token means: CPO, SimPO, AlphaPO.

Without a reference there is no policy at which their value is known, and only the data, the number of steps and a
likelihood loss keep the policy near its initialisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import expm1
from torch.nn.functional import softplus

from equipoise.core.numerics import LARGEST_EXPONENT
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.parts import mean_likelihood_loss
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Cpo:
    """Contrastive preference optimisation: DPO against a uniform reference, and the likelihood of the chosen.

        L = softplus(-m) - alpha log pi(y0)/|y0|,    m = beta [ log pi(y0) - log pi(y1) ]

    Symbols:
    |y0|    number of scored tokens; the margin reads sums.
    beta    > 0.     alpha   weight of the token-mean likelihood loss, >= 0.

    Properties: DPO plus the likelihood loss where the reference gives both responses the same log-prob. alpha = 0 is
    `ReferenceFreeDpo`.
    Raises: ValueError for parameters out of range, or where lengths are needed and absent.

    Source: Xu et al. 2024 (2401.08417), checked against TRL.
    """

    beta: float = 0.1
    alpha: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        m = self.beta * scores.gap()
        value = softplus(-m)
        if self.alpha > 0:
            value = value + self.alpha * mean_likelihood_loss(scores)
        return Losses(value, margin=m)


def ReferenceFreeDpo(*, beta: float = 0.1) -> Cpo:
    """Reference-free DPO: the logistic loss on log-probs themselves, a uniform reference in effect.

        L = softplus(-beta [ log pi(y0) - log pi(y1) ])

    Properties: The case `alpha=0` of `Cpo`. log 2 where both responses have the same log-prob. A long rejected response
    has a large margin from the start; nothing keeps the policy near its initialisation.

    Source: Rafailov et al. 2023 (2305.18290), the authors' code with `reference_free`; read there.
    """
    return Cpo(beta=beta, alpha=0.0)


@dataclass(frozen=True, kw_only=True)
class CpoSimpo:
    """CPO-SimPO: SimPO and the likelihood of the chosen response.

        L = softplus(gamma - m) - alpha log pi(y0)/|y0|,    m = beta [ log pi(y0)/|y0| - log pi(y1)/|y1| ]

    Symbols:
    beta    > 0, per token.     gamma   target margin, >= 0, in units of m: see `Simpo` for the trap in its name.
    alpha   weight of the likelihood loss, >= 0; 0 is SimPO.

    Raises: ValueError for parameters out of range, or where the batch carries no lengths.

    Source: the combination of 2405.14734 and 2401.08417 that TRL's CPO trainer has, read there.
    """

    beta: float = 2.0
    gamma: float = 1.0
    alpha: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(gamma=self.gamma, alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        m = self.beta * scores.per_token().gap()
        return Losses(softplus(self.gamma - m) + self.alpha * mean_likelihood_loss(scores), margin=m)


@dataclass(frozen=True, kw_only=True)
class Simpo:
    """SimPO: a target margin between mean token log-probs, without a reference.

        L = softplus(gamma - m),    m = beta [ log pi(y0)/|y0| - log pi(y1)/|y1| ]

    Symbols:
    beta    > 0, per token: some 20 times DPO's, because means are small.
    gamma   target margin, >= 0, in units of m. THE TRAP: the authors' code takes the RATIO gamma/beta (0.3 to 0.5)
            and multiplies by beta; here gamma is the paper's, so a ratio of 0.5 at beta = 2 is gamma = 1.

    Properties: The case alpha = 0 of `CpoSimpo`. Each token of y is pulled by beta/|y|. softplus(gamma) where the means
    are equal; repeating both responses changes nothing. Equal lengths n and gamma = 0 is reference-free DPO with
    beta/n.
    Raises: ValueError for parameters out of range, or where the batch carries no lengths.

    Source: Meng et al. 2024 (2405.14734), checked against the authors' code.
    """

    beta: float = 2.0
    gamma: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        CpoSimpo(beta=self.beta, gamma=self.gamma, alpha=0.0)

    def __call__(self, scores: Scores) -> Losses:
        return CpoSimpo(beta=self.beta, gamma=self.gamma, alpha=0.0)(scores)


@dataclass(frozen=True, kw_only=True)
class AlphaPo:
    """AlphaPO: SimPO with a power-law reward.

        L = softplus(gamma - m),    m = beta [ r(y0) - r(y1) ],    r(y) = (1 - p^-alpha)/alpha
        p = exp(log pi(y)/|y|), the mean token probability

    Symbols:
    beta, gamma   as in `Simpo`.
    alpha         any number; alpha -> 0 gives r = log p and with it SimPO, and alpha = 0 is that limit.

    Properties: dr/dlog p = p^-alpha: with alpha > 0 unlikely responses are moved more, with alpha < 0 less. The
    exponent -alpha log p is cut at 80.
    Raises: ValueError for parameters out of range, or where the batch carries no lengths.

    Source: Gupta et al. 2025 (2501.03884), the reward checked against TRL; the defaults are RECALLED.
    """

    beta: float = 2.5
    gamma: float = 0.25
    alpha: float = 0.25
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(gamma=self.gamma)
        if not abs(self.alpha) < float("inf"):
            raise ValueError(f"alpha must be a number, got {self.alpha!r}")

    def __call__(self, scores: Scores) -> Losses:
        reward = scores.per_token().logp
        if self.alpha != 0:
            reward = -expm1((-self.alpha * reward).clamp(max=LARGEST_EXPONENT)) / self.alpha
        m = self.beta * (reward[:, 0] - reward[:, 1])
        return Losses(softplus(self.gamma - m), margin=m)
