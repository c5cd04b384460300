"""DPO plus a likelihood loss, or with different weights for winner and loser: RPO, IRPO, Flex-DPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import softplus

from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.parts import likelihood_loss, margin, mean_likelihood_loss
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Rpo:
    """Regularised preference optimisation: DPO plus imitation of the chosen responses, a form of pessimism.

        L = softplus(-m) - eta beta log pi(y0),    m = beta [ log-ratio(y0) - log-ratio(y1) ]

    Symbols:
    beta    inverse strength of the implicit reward, > 0.
    eta     weight of the likelihood loss, >= 0; the SUM of log-probs counts, times beta.

    Properties: The likelihood loss follows from an adversarial reward player who minimises the policy's value relative
    to a baseline policy, here the distribution of the chosen responses. dL/dlog pi(y0) = -beta [ sigma(-m) + eta ]:
    the push on the chosen response never vanishes; the one on the rejected is DPO's. At pi = pi_ref the loss is log 2 -
    eta beta log pi_ref(y0). eta = 0 is DPO.
    Raises: ValueError for parameters out of range.

    Source: Liu et al. 2024 (2405.16436), checked against the authors' code.
    """

    beta: float = 0.01
    eta: float = 0.005
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(eta=self.eta)

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        return Losses(softplus(-m) + self.eta * self.beta * likelihood_loss(scores), margin=m)


@dataclass(frozen=True, kw_only=True)
class Irpo:
    """Iterative reasoning preference optimisation: DPO and the token-mean likelihood loss of the chosen response.

        L = softplus(-m) - alpha log pi(y0)/|y0|,    m = beta [ log-ratio(y0) - log-ratio(y1) ]

    Symbols:
    |y0|    number of scored tokens.
    alpha   weight of the likelihood loss, >= 0.

    Properties: The paper puts a weight on the preference term instead: its alpha is the inverse of this one, with the
    loss divided by it. Differs from `Rpo` in the mean and in the absent beta. alpha = 0 is DPO.
    Raises: ValueError for parameters out of range, or where the batch carries no lengths.

    Source: Pang et al. 2024 (2404.19733), RECALLED; the form is TRL's former `rpo_alpha`, read there. A second
    release of RPO's authors has it with alpha = 0.2.
    """

    beta: float = 0.1
    alpha: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        m = margin(scores, self.beta)
        value = softplus(-m)
        if self.alpha:  # without it no lengths are read
            value = value + self.alpha * mean_likelihood_loss(scores)
        return Losses(value, margin=m)


@dataclass(frozen=True, kw_only=True)
class FlexDpo:
    """Flex-DPO: the loser's log-ratio counts less than the winner's.

        L = softplus(-m) - sft log pi(y0),    m = beta_p log-ratio(y0) - beta_n log-ratio(y1)

    Symbols:
    beta_p, beta_n   weights of winner and loser, > 0 and >= 0; the method takes beta_n < beta_p.
    sft              weight of the likelihood loss, >= 0.

    Properties: Slows the drop of rejected likelihoods, and with it likelihood displacement: falling chosen ones,
    dispersed mass. In log-probs the two gradients stand as beta_p : beta_n. beta_p = beta_n and sft = 0 is DPO;
    beta_n = 0 is a one-sided logistic loss on the winner. NOT invariant to a shift c of both log-ratios, which moves m
    by (beta_p - beta_n) c. The diagnostic `margin` is m.
    Raises: ValueError for parameters out of range.

    Source: 2406.07327, the paper's text; beta_n, the best of those that it compares, at second hand.
    """

    beta_p: float = 0.1
    beta_n: float = 0.08
    sft: float = 0.0
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta_p=self.beta_p)
        not_negative(beta_n=self.beta_n, sft=self.sft)

    def __call__(self, scores: Scores) -> Losses:
        ratio = scores.log_ratio("reference")
        m = self.beta_p * ratio[:, 0] - self.beta_n * ratio[:, 1]
        return Losses(softplus(-m) + self.sft * likelihood_loss(scores), margin=m)
