"""Divergences between distributions: exact over a finite set, and the sample estimators of the KL.

Units are nats. Exact forms take log-probs over the last dimension and return the leading shape; -inf, the log
of 0, is legal. Nothing is detached: gradients flow into both arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from equipoise.core.numerics import LARGEST_EXPONENT, bounded_exp

LogProbs: TypeAlias = Float[Tensor, "... A"]
Real: TypeAlias = Float[Tensor, "..."]
Estimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A convex f with f(1) = 0, written so that it neither overflows nor cancels.

    perspective   (log p, log q) -> q f(p/q) for p, q > 0.
    slope         log u -> f'(u): the reward, over beta, that makes u = p/q optimal (f-DPO). Exponents are cut at 80.
    at_zero       f(0): cost per unit of mass of q outside the support of p.
    at_infinity   lim f(u)/u: cost per unit of mass of p outside the support of q.
    """

    name: str
    perspective: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    at_zero: float
    at_infinity: float

    def __call__(self, u: Real) -> Real:
        """f(u) for u > 0."""
        return self.perspective(u.log(), torch.zeros_like(u))


def f_divergence(log_p: LogProbs, log_q: LogProbs, f: Generator) -> Real:
    """f-divergence D_f(p || q) = sum_a q(a) f(p(a)/q(a)), in the convention with q as the reference.

    log_p, log_q   [..., A] log-probs of the policy and of the reference.

    Where q(a) = 0 the term is p(a) lim f(u)/u, and 0 where both vanish; +inf if mass is missing at an
    infinite cost. D_f >= 0, with equality iff p = q.
    """
    in_p, in_q = log_p > -inf, log_q > -inf
    # masked entries are replaced before the arithmetic, so that no gradient is 0 * inf
    safe_p, safe_q = log_p.where(in_p & in_q, 0), log_q.where(in_p & in_q, 0)
    shared = f.perspective(safe_p, safe_q).where(in_p & in_q, 0).sum(dim=-1)
    return shared + _missing(log_q, in_q & ~in_p, f.at_zero) + _missing(log_p, in_p & ~in_q, f.at_infinity)


def _missing(log_mass: Tensor, where: Tensor, price: float) -> Tensor:
    """Price of the masked mass: a count of 0 costs 0 even at an infinite price."""
    if price == inf:
        return torch.zeros_like(log_mass.sum(dim=-1)).masked_fill(where.any(dim=-1), inf)
    return price * log_mass.masked_fill(~where, -inf).exp().sum(dim=-1)


def kl(log_p: LogProbs, log_q: LogProbs) -> Real:
    """Kullback-Leibler divergence KL(p || q) = sum_a p(a) (log p(a) - log q(a)), in nats.

    0 log 0 = 0; +inf where p has mass outside the support of q. Case REVERSE_KL of `f_divergence`.
    """
    return f_divergence(log_p, log_q, REVERSE_KL)


def _jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    middle = torch.logaddexp(log_p, log_q) - log(2)
    return 0.5 * (log_p.exp() * (log_p - middle) + log_q.exp() * (log_q - middle))


REVERSE_KL = Generator(
    name="reverse KL: f(u) = u log u, D = KL(p || q)",
    perspective=lambda log_p, log_q: log_p.exp() * (log_p - log_q),
    slope=lambda log_u: log_u + 1,
    at_zero=0.0,
    at_infinity=inf,
)
FORWARD_KL = Generator(
    name="forward KL: f(u) = -log u, D = KL(q || p)",
    perspective=lambda log_p, log_q: log_q.exp() * (log_q - log_p),
    slope=lambda log_u: -bounded_exp(-log_u),
    at_zero=inf,
    at_infinity=0.0,
)
JENSEN_SHANNON = Generator(
    # half of the generator of f-DPO (2309.16240): with this one D is the usual divergence, at most log 2
    name="Jensen-Shannon: f(u) = (u log u - (u + 1) log((u + 1)/2)) / 2",
    perspective=_jensen_shannon,
    slope=lambda log_u: 0.5 * (log(2) + logsigmoid(log_u)),
    at_zero=0.5 * log(2),
    at_infinity=0.5 * log(2),
)
CHI_SQUARE = Generator(
    name="chi-square: f(u) = (u - 1)^2",
    perspective=lambda log_p, log_q: log_q.exp() * torch.expm1(log_p - log_q).square(),
    slope=lambda log_u: 2 * torch.expm1(log_u.clamp(max=LARGEST_EXPONENT)),
    at_zero=1.0,
    at_infinity=inf,
)
TOTAL_VARIATION = Generator(
    name="total variation: f(u) = |u - 1| / 2",
    perspective=lambda log_p, log_q: 0.5 * (log_p.exp() - log_q.exp()).abs(),
    slope=lambda log_u: 0.5 * log_u.sign(),
    at_zero=0.5,
    at_infinity=0.5,
)


def alpha(a: float) -> Generator:
    """Alpha: f(u) = (u^(1-a) - (1-a) u - a) / (a (a-1)), 0 < a < 1; reverse KL as a -> 0, forward KL as a -> 1.

    The parameter is that of f-DPO (2309.16240); some libraries store 1 - a. Raises ValueError outside (0, 1).
    """
    if not 0 < a < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {a!r}; use the KL at the ends")

    def perspective(log_p: Tensor, log_q: Tensor) -> Tensor:
        mixed = torch.exp((1 - a) * log_p + a * log_q)
        return (mixed - (1 - a) * log_p.exp() - a * log_q.exp()) / (a * (a - 1))

    def slope(log_u: Tensor) -> Tensor:
        return -torch.expm1((-a * log_u).clamp(max=LARGEST_EXPONENT)) / a

    return Generator(
        name=f"alpha = {a}", perspective=perspective, slope=slope, at_zero=1 / (1 - a), at_infinity=1 / a
    )


def estimate(logp: Real, logp_ref: Real, kind: Estimator) -> Real:
    """Per-sample estimates of KL(pi || pi_ref) from samples y ~ pi, with a = log pi(y) - log pi_ref(y).

        k1 = a              unbiased; high variance, can be negative
        k2 = a^2 / 2        BIASED, >= 0; right to second order in a
        k3 = e^(-a) - 1 + a unbiased (E_pi e^(-a) = 1 if pi covers pi_ref), >= 0, 0 iff a = 0; its variance is
                            finite only if the tail of pi_ref/pi is light

    logp, logp_ref   any shape, per token or per response, in nats.

    As LOSSES, differentiated through logp with the samples held fixed, they have other gradients:

        E grad k1 = 0                            pure noise: the score has mean zero
        E grad k2 = grad KL(pi || pi_ref)        the divergence that k1 and k3 estimate
        E grad k3 = grad KL(pi_ref || pi)        the FORWARD KL, since grad k3 = (1 - e^(-a)) grad log pi

    k1 inside a score-function reward gives the right gradient too. None of this holds for off-policy samples.
    Raises ValueError for an unknown kind.

    Source: Schulman's note on approximating KL (2020), RECALLED; both tables DERIVED, checked by enumeration.
    """
    a = logp - logp_ref
    if kind == "k1":
        return a
    if kind == "k2":
        return 0.5 * a.square()
    if kind == "k3":
        return torch.expm1(-a) + a
    raise ValueError(f"kind must be 'k1', 'k2' or 'k3', got {kind!r}")
