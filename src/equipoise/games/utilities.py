"""Several utilities on one finite game: KL-regularised play for a weighted sum of them, and for the worst of them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.games.tabular import TabularPolicy

Utilities: TypeAlias = Float[Tensor, "G X A"]
Weights: TypeAlias = Float[Tensor, " G"]


class MaxMin(NamedTuple):
    """A max-min policy, the group weights it is the best response to, and the utilities and KL that it has."""

    policy: TabularPolicy
    weights: Tensor
    utilities: Tensor
    kl: float


def expected(utilities: Utilities, policy: TabularPolicy) -> Weights:
    """U_g = mean_x E_{y ~ pi(.|x)} u_g(x, y), [G]."""
    return (utilities * policy.probs()).sum(dim=2).mean(dim=1)


def best_policy(
    utilities: Utilities, weights: Weights, reference: TabularPolicy, beta: float
) -> TabularPolicy:
    """argmax_pi sum_g w_g U_g(pi) - beta KL(pi || pi_ref) = pi_ref exp( sum_g w_g u_g / beta ) / Z."""
    mixed = torch.einsum("g,gxa->xa", weights, utilities)
    return TabularPolicy((reference.log_probs() + mixed / beta).log_softmax(dim=1))


def max_min(
    utilities: Utilities, reference: TabularPolicy, beta: float, *, steps: int = 500, eta: float = 2.0
) -> MaxMin:
    """max_pi min_g U_g(pi) - beta KL(pi || pi_ref), by multiplicative weights on its dual.

        q_g ~ q_g exp( -eta_t U_g(pi_q) ),    pi_q = argmax_pi sum_g q_g U_g(pi) - beta KL(pi || pi_ref)

    The dual D(q) = max_pi sum_g q_g U_g(pi) - beta KL is convex in q with the gradient U(pi_q), so exponentiated
    gradient descent with eta_t = eta / sqrt(t) finds its minimum, the max-min value. Since KL makes pi_q unique, pi at
    the best q is the max-min policy. Source: DERIVED (minimax theorem); the objective is MaxMin-RLHF's (2402.08925).
    """
    log_weights = torch.zeros(len(utilities), dtype=torch.float64)
    best, least = log_weights.softmax(dim=0), float("inf")
    for step in range(1, steps + 1):
        weights = log_weights.softmax(dim=0)
        policy = best_policy(utilities, weights, reference, beta)
        found = expected(utilities, policy)
        dual = float(weights @ found) - beta * _kl(policy, reference)
        if dual < least:
            best, least = weights, dual
        log_weights = log_weights - eta / step**0.5 * found
    policy = best_policy(utilities, best, reference, beta)
    return MaxMin(policy, best, expected(utilities, policy), _kl(policy, reference))


def _kl(policy: TabularPolicy, reference: TabularPolicy) -> float:
    logs = policy.log_probs()
    return float((logs.exp() * (logs - reference.log_probs())).sum(dim=1).mean())
