"""Squared losses that regress a log-ratio margin on a constant: IPO, its per-token form, INPO and ONPO.

A constant target on labelled pairs is a regression on win rates without estimating any: if y, y' are
drawn i.i.d. from one policy q and labelled by P, then over functions f

    E[(f(y_w) - f(y_l) - c/2)^2] = E[(f(y) - f(y') - c (P(y > y') - 1/2))^2] + const,

and the minimiser is f(y) = c P(y > q) + const on the support of q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import positive
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


def _regress(margin: PerComparison, target: float) -> Losses:
    return Losses((margin - target).square(), margin=margin)


@dataclass(frozen=True, kw_only=True)
class Inpo:
    """Iterative Nash policy optimisation: one no-regret step towards the regularised Nash policy.

        L = ( h - 1/(2 eta) )^2
        h = gap(pi) - (tau/eta) gap(pi_ref) - (1 - tau/eta) gap(pi_t),    gap(q) = log q(y0) - log q(y1)

    Symbols:
    y0, y1   winner and loser of a pair sampled from pi_t; log-probs are sums over response tokens.
    pi_t     the policy at the start of the round (anchor "previous"), pi_ref the anchor "reference".
    eta      INVERSE step: the update is proportional to exp(P(y > pi_t)/eta). Papers clash on this name.
    tau      KL weight of the game, 0 <= tau <= eta.

    Gradient: through pi only.
    Properties: For i.i.d. pairs from pi_t with Bernoulli labels the unique population minimiser is pi(y) ~
    exp(P(y > pi_t)/eta) pi_ref(y)^(tau/eta) pi_t(y)^(1 - tau/eta), whose fixed point is the regularised Nash policy for
    every eta. `eta = tau` is online IPO, `tau = 0` is multiplicative weights.
    Raises: ValueError unless 0 <= tau <= eta and eta > 0.

    Source: Zhang et al. 2024 (2407.00617), the loss of Algorithm 1.
    """

    eta: float = 0.005
    tau: float = 0.005 / 3
    anchors: ClassVar[tuple[str, ...]] = ("reference", "previous")
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(eta=self.eta)
        if not 0 <= self.tau <= self.eta:
            raise ValueError(f"INPO needs 0 <= tau <= eta, got tau={self.tau!r}, eta={self.eta!r}")

    def __call__(self, scores: Scores) -> Losses:
        share = self.tau / self.eta
        h = scores.gap() - share * scores.gap("reference") - (1 - share) * scores.gap("previous")
        return _regress(h, 0.5 / self.eta)


@dataclass(frozen=True, kw_only=True)
class Onpo:
    """Optimistic Nash policy optimisation: one fit towards the Nash policy of the unregularised game.

        L = ( g - eta/2 )^2
        g = [log pi(y0) - log pi_a(y0)] - [log pi(y1) - log pi_a(y1)]

    Symbols:
    y0, y1   winner and loser of a pair sampled from pi_t; log-probs are sums over response tokens.
    pi_a     the policy this fit starts from (anchor "previous"). A round makes two fits of the same data: from
             the lazy sequence pi'_t to pi'_{t+1}, then from pi'_{t+1} to pi_{t+1}.
    eta      STEP, > 0: the minimiser is proportional to pi_a exp(eta P(y > pi_t)). (INPO's eta is its inverse.)

    Gradient: through pi only.
    Properties: The loss of `Inpo` with its eta set to 1/eta and tau = 0. Without the second fit it is multiplicative
    weights.
    Raises: ValueError unless eta > 0.

    Source: Zhang et al. 2025 (2502.16852); no step size was recovered, the default is the inverse of INPO's.
    """

    eta: float = 200.0
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(eta=self.eta)

    def __call__(self, scores: Scores) -> Losses:
        return _regress(scores.gap() - scores.gap("previous"), self.eta / 2)


@dataclass(frozen=True, kw_only=True)
class NashMd:
    """Nash-MD as a squared loss: its minimiser is a mirror-descent step from a mixture with the reference.

        L = ( h - eta/2 )^2
        h = gap(pi) - eta tau gap(pi_ref) - (1 - eta tau) gap(pi_t),    gap(q) = log q(y0) - log q(y1)

    Symbols:
    y0, y1   winner and loser of a pair sampled from the mixture m ~ pi_t^(1 - eta tau) pi_ref^(eta tau).
    eta      STEP, > 0;   tau   KL weight of the game, >= 0;   eta tau <= 1.

    Gradient: through pi only.
    Properties: The loss of `Inpo` with its eta set to 1/eta; Nash-MD differs by its sampler. The minimiser is m
    exp(eta P(y > m)); with a constant step its limit differs from the regularised Nash policy.
    Raises: ValueError unless eta > 0 and 0 <= eta tau <= 1.

    Source: Munos et al. 2023 (2312.00886), the tabular update; written as a regression it is DERIVED.
    """

    eta: float = 1.0
    tau: float = 0.008
    anchors: ClassVar[tuple[str, ...]] = ("reference", "previous")
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(eta=self.eta)
        Inpo(eta=1 / self.eta, tau=self.tau)

    def __call__(self, scores: Scores) -> Losses:
        return Inpo(eta=1 / self.eta, tau=self.tau)(scores)


@dataclass(frozen=True, kw_only=True)
class Ipo:
    """Identity preference optimisation on summed log-probs.

        L = ( [log pi(y0) - log pi_ref(y0)] - [log pi(y1) - log pi_ref(y1)] - 1/(2 tau) )^2

    Symbols:
    y0, y1   preferred and dispreferred response; log-probs are sums over response tokens, as in the paper.
    tau      regularisation strength, > 0; no beta multiplies the ratios.

    Gradient: through pi only.
    Properties: With label probability p the minimiser is log-ratio(y0) - log-ratio(y1) = (p - 1/2)/tau, bounded even
    for p = 1; at pi = pi_ref the loss is 1/(4 tau^2).
    Raises: ValueError unless tau > 0.

    Source: Azar et al. 2023 (2310.12036), eq. 17. Some libraries divide each ratio by its own length under
    the same name; that is `IpoMean` here.
    """

    tau: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def __call__(self, scores: Scores) -> Losses:
        h = scores.gap() - scores.gap("reference")
        return _regress(h, 0.5 / self.tau)


@dataclass(frozen=True, kw_only=True)
class IpoMean:
    """IPO on mean token log-probs: every log-ratio is divided by its response's length.

        L = ( log-ratio(y0)/|y0| - log-ratio(y1)/|y1| - 1/(2 tau) )^2

    Properties: |y| counts the scored tokens, so the target margin is 1/(2 tau) nats PER TOKEN and tau is not comparable
    with that of `Ipo`. Everything else is `Ipo`.
    Raises: ValueError if the batch carries no lengths.

    Source: the length-averaged form of 2310.12036 in TRL and HALOs, by their account confirmed with its authors.
    """

    tau: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(tau=self.tau)

    def __call__(self, scores: Scores) -> Losses:
        return Ipo(tau=self.tau)(scores.per_token())
