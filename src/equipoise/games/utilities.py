"""Several utilities on one finite game: KL-regularised play for a weighted sum of them, for the worst of them, and
under constraints on them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.games.tabular import TabularPolicy

Utilities: TypeAlias = Float[Tensor, "G X A"]
Weights: TypeAlias = Float[Tensor, " G"]
OPTIONS: Any = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}  # of the search for multipliers


class MaxMin(NamedTuple):
    """A max-min policy, the group weights it is the best response to, and the utilities and KL that it has."""

    policy: TabularPolicy
    weights: Tensor
    utilities: Tensor
    kl: float


class ConstrainedPolicy(NamedTuple):
    """The policy nearest to the reference that meets constraints, its multipliers, utilities and KL divergence."""

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


def constrained(
    utilities: Utilities,
    thresholds: npt.ArrayLike,
    reference: TabularPolicy,
    *,
    form: Literal["at_least", "equal"] = "at_least",
) -> ConstrainedPolicy:
    """argmin_pi KL(pi || pi_ref) subject to U_g(pi) >= theta_g, or = theta_g: pi_ref exp( sum_g lambda_g u_g ) / Z.

    The dual D(lambda) = max_pi sum_g lambda_g (U_g(pi) - theta_g) - KL is convex with the gradient U(pi) - theta; its
    minimum over lambda >= 0 (any lambda for equalities) is found by L-BFGS-B.

    thresholds   [G]. Raises ValueError if no policy is found that meets them.

    Source: the problem of constrained RLHF (2310.04373); DERIVED.
    """
    from scipy.optimize import Bounds, minimize

    bound = torch.as_tensor(np.asarray(thresholds, dtype=np.float64))

    def play(weights: npt.NDArray[np.float64]) -> tuple[TabularPolicy, Tensor]:
        policy = best_policy(utilities, torch.from_numpy(np.array(weights)), reference, 1.0)
        return policy, expected(utilities, policy)

    def dual(weights: npt.NDArray[np.float64], /) -> tuple[float, npt.NDArray[np.float64]]:
        policy, found = play(weights)
        slack = (found - bound).numpy()
        return float(weights @ slack) - _kl(policy, reference), slack

    limits = Bounds(0.0 if form == "at_least" else -np.inf, np.inf)
    at = minimize(dual, np.zeros(len(bound)), jac=True, method="L-BFGS-B", bounds=limits, options=OPTIONS).x
    policy, found = play(at)
    missed = (bound - found).numpy()
    if (np.abs(missed) if form == "equal" else missed).max() > 1e-4:
        raise ValueError(f"no policy was found that meets the thresholds {bound.tolist()}")
    return ConstrainedPolicy(policy, torch.from_numpy(at), found, _kl(policy, reference))


def _kl(policy: TabularPolicy, reference: TabularPolicy) -> float:
    logs = policy.log_probs()
    return float((logs.exp() * (logs - reference.log_probs())).sum(dim=1).mean())
