"""H-consistency bounds of comp-sum losses: Psi_tau, its inverse Gamma_tau, minimisability gaps, plain upper bounds.

R01(h) - R01* + M01 <= Gamma_tau( R_tau(h) - R_tau* + M_tau )
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from equipoise.core.objectives.base import not_negative

Floats: TypeAlias = npt.NDArray[np.float64]
NEAR_ONE = 1e-7  # |tau - 1| below which the logistic form stands for its neighbours
STEPS = 80  # of bisection


def psi(b: Floats | float, tau: float, labels: int) -> Floats:
    """Psi_tau(b) of b in [0, 1]: the excess comp-sum risk that an excess zero-one risk b costs at least.

        tau < 1        2^(1-tau)/(1-tau) [ 1 - s^(2-tau) ],    s = ( (1+b)^(1/(2-tau)) + (1-b)^(1/(2-tau)) ) / 2
        tau = 1        (1+b)/2 log(1+b) + (1-b)/2 log(1-b)
        1 < tau < 2    ( s^(2-tau) - 1 ) / ( (tau-1) n^(tau-1) )
        tau >= 2       b / ( (tau-1) n^(tau-1) )

    labels   n >= 2.

    Increasing and convex, Psi(0) = 0. Raises ValueError for b outside [0, 1], tau < 0 or fewer than two labels.
    Source: Mao et al. 2023 (2304.07288), RECALLED; checked numerically.
    """
    not_negative(tau=tau)
    if labels < 2:
        raise ValueError(f"a bound needs two labels or more, got {labels}")
    b = np.asarray(b, dtype=np.float64)
    if b.size and not (b.min() >= 0 and b.max() <= 1):
        raise ValueError("b is an excess zero-one risk and must lie in [0, 1]")
    if abs(tau - 1) < NEAR_ONE:
        return np.asarray((xlogy(1 + b, 1 + b) + xlogy(1 - b, 1 - b)) / 2)
    if tau >= 2:
        return np.asarray(b / ((tau - 1) * labels ** (tau - 1)))
    e = 1 / (2 - tau)
    powered = (((1 + b) ** e + (1 - b) ** e) / 2) ** (2 - tau)
    if tau < 1:
        return np.asarray(2 ** (1 - tau) / (1 - tau) * (1 - powered))
    return np.asarray((powered - 1) / ((tau - 1) * labels ** (tau - 1)))


def gamma(excess: Floats | float, tau: float, labels: int) -> Floats:
    """Gamma_tau = Psi_tau^-1: the largest excess zero-one risk that an excess comp-sum risk >= 0 allows, at most 1."""
    t = np.asarray(excess, dtype=np.float64)
    if t.size and t.min() < 0:
        raise ValueError("an excess risk is not negative")
    low, high = np.zeros_like(t), np.ones_like(t)
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = psi(middle, tau, labels) < t
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


def plain_bound(excess: Floats | float, tau: float, labels: int) -> Floats:
    """A plain upper bound of Gamma_tau(t), which shows what tau costs.

    sqrt(2^tau (2-tau) t) if tau < 1,    sqrt(2 n^(tau-1) t) if tau < 2,    (tau-1) n^(tau-1) t above
    """
    t = np.asarray(excess, dtype=np.float64)
    if tau < 1:
        return np.asarray(np.sqrt(2**tau * (2 - tau) * t))
    if tau < 2:
        return np.asarray(np.sqrt(2 * labels ** (tau - 1) * t))
    return np.asarray((tau - 1) * labels ** (tau - 1) * t)


def conditional_risk(prob: Floats, predicted: Floats, tau: float) -> Floats:
    """Expected comp-sum loss sum_y p_y l_tau(s, y) of each row, [N], where a model predicts softmax probabilities s.

    prob, predicted   [N, n] rows of p and s > 0. As s_y = 1/(1 + u), l_tau = (s_y^(tau-1) - 1)/(1 - tau).
    """
    power = 1 - tau
    logs = -np.log(predicted)
    value = logs if abs(power) < NEAR_ONE else np.expm1(power * logs) / power
    return np.asarray((prob * value).sum(axis=1))


def best_conditional_risk(prob: Floats, tau: float) -> Floats:
    """The least conditional comp-sum risk of each row over all scores, [N].

    tau < 2: at s_y ~ p_y^(1/(2-tau));  tau >= 2: at s = one-hot of the largest p, (1 - max p)/(tau - 1)
    """
    if tau >= 2:
        return (1 - prob.max(axis=1)) / (tau - 1)
    s = prob ** (1 / (2 - tau))
    s = np.maximum(s / s.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return conditional_risk(prob, s, tau)
