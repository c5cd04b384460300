"""Odds-ratio losses: ORPO compares two responses, unlikelihood and ASFT treat each response separately.

p(y) = exp(log pi(y)/|y|), the mean token probability of a response; o(y) = log p - log(1 - p), its log-odds. A mean
log-prob above -1e-6 counts as -1e-6: the odds of certainty are infinite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import softplus

from equipoise.core.numerics import log_odds
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.parts import mean_likelihood_loss
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class LikelihoodAndOdds(ABC):
    """Likelihood of the chosen response plus an odds term: L = -log p(y0) + lam `odds`(scores).

    Symbols:
    p(y0)  mean token probability of the chosen response.
    lam    weight of the odds term, >= 0.

    Raises: ValueError for lam < 0.
    """

    lam: float
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        not_negative(lam=self.lam)

    @abstractmethod
    def odds(self, scores: Scores) -> Losses:
        """The odds term alone, [B], with its diagnostics."""

    def __call__(self, scores: Scores) -> Losses:
        term = self.odds(scores)
        return Losses(mean_likelihood_loss(scores) + self.lam * term.value, **term.metrics)


@dataclass(frozen=True, kw_only=True)
class Orpo(LikelihoodAndOdds):
    """ORPO: the likelihood loss of the chosen response, and the odds of chosen against rejected.

        L = -log p(y0) + lam softplus(-[ o(y0) - o(y1) ])

    Symbols:
    p, o   mean token probability exp(log pi(y)/|y|) and its log-odds.
    lam    weight of the odds term, >= 0; libraries call it beta.

    Properties: No reference. lam = 0 is supervised fine-tuning; equal odds give an odds term of log 2. Response tokens
    only: see the deviations.
    Raises: ValueError for parameters out of range, or where the batch carries no lengths.

    Source: Hong et al. 2024 (2403.07691), checked against TRL.
    """

    lam: float = 0.1

    def odds(self, scores: Scores) -> Losses:
        odds = log_odds(scores.per_token().logp)
        m = odds[:, 0] - odds[:, 1]
        return Losses(softplus(-m), margin=m)


@dataclass(frozen=True, kw_only=True)
class Unlikelihood:
    """Likelihood of the chosen and unlikelihood of the rejected response.

        L = -log p(y0) - alpha log(1 - p(y1)) = softplus(-o(y0)) + alpha softplus(o(y1))

    Symbols:
    p, o    mean token probability exp(log pi(y)/|y|) and its log-odds.
    alpha   weight of the unlikelihood, >= 0.

    Properties: No reference. At alpha = 1 it is the loss of the statement "the chosen response is valid and the
    rejected one is not" over all cases: a rejected response has a separate gradient, and no cost once it is unlikely.
    `Asft` is 1 + lam times this at alpha = lam/(1 + lam); `Orpo`'s odds term is never larger than this at alpha = 1.
    alpha = 0 is supervised fine-tuning.
    Raises: ValueError for parameters out of range, or where the batch carries no lengths.

    Source: Welleck et al. 2019 (1908.04319), whose unlikelihood is of tokens, RECALLED; of whole responses as in
    2412.17696, the paper's text at second hand.
    """

    alpha: float = 1.0
    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        not_negative(alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        odds = log_odds(scores.per_token().logp)
        apart = softplus(-odds[:, 0]) + self.alpha * softplus(odds[:, 1])
        return Losses(apart, margin=odds[:, 0] - odds[:, 1])


@dataclass(frozen=True, kw_only=True)
class Asft(LikelihoodAndOdds):
    """ASFT: the likelihood loss of the chosen response, and a separate odds term for each response.

        L = -log p(y0) + lam [ softplus(-o(y0)) + softplus(o(y1)) ]
          = -(1 + lam) log p(y0) - lam log(1 - p(y1))

    Symbols:
    p, o   mean token probability exp(log pi(y)/|y|) and its log-odds.
    lam    weight of the odds terms, >= 0.

    Properties: No reference. Decoupled: neither response's gradient depends on the other; the second term is
    unlikelihood of the rejected response, which costs nothing once it is unlikely. `Orpo` is this less lam times -log(
    p0 (1 - p1) + p1 (1 - p0) ) >= 0, so never larger. lam = 0 is supervised fine-tuning.
    Raises: ValueError for parameters out of range, or where the batch carries no lengths.

    Source: Wang et al. 2024 (2409.10571), the paper's text as restated in 2502.01237; the closed form is DERIVED.
    """

    lam: float = 1.0

    def odds(self, scores: Scores) -> Losses:
        return Unlikelihood()(scores)


@dataclass(frozen=True, kw_only=True)
class AsftAligned:
    """ASFT with a temperature and a reference, after a separate supervised stage.

        L = softplus(-beta r(y0)) + softplus(beta r(y1)),    r(y) = o(y) - o_ref(y)

    Symbols:
    o, o_ref   log-odds of the mean token probability under the policy and under the reference.
    beta       > 0.

    Properties: `BcoPair` with odds in place of log-probs. 2 log 2 at pi = pi_ref.
    Raises: ValueError unless beta > 0, or where the batch carries no lengths.

    Source: the form in which 2502.01237 compares losses, the paper's text; that it subtracts a reference is one of
    its two variants.
    """

    beta: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(beta=self.beta)

    def __call__(self, scores: Scores) -> Losses:
        mean = scores.per_token()
        r = self.beta * (log_odds(mean.logp) - log_odds(mean.of("reference")))
        return Losses(softplus(-r[:, 0]) + softplus(r[:, 1]), margin=r[:, 0] - r[:, 1])
