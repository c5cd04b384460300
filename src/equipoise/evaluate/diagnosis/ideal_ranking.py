"""Idealised ranking accuracy: what exact training would reach from this reference, and what small losses imply.

Source: Chen et al. 2024, 2405.19534, sections 3 and 4.
"""

from __future__ import annotations

import numpy as np

from equipoise.core.logistic import logit
from equipoise.play.state import Floats

BETAS = (0.01, 0.1, 1.0, 5.0, 10.0)  # that the paper sweeps
CERTAIN = 0.001  # a label without dissent counts as 1 - CERTAIN, the paper's
REACHED = 1e-2  # nats of loss on a pair that training seldom falls below


def ideal_ranking(gap: Floats, share: Floats, beta: float) -> Floats:
    """Ranking [N] under the exact optimum of RLHF's and DPO's objective: 1 where the preferred response is likelier.

        pi*(y_w)/pi*(y_l) = pi_ref(y_w)/pi_ref(y_l) (a/(1-a))^(1/beta),    1 where its logarithm is above 0; ties half

    gap    [N] log pi_ref(y_w) - log pi_ref(y_l), nats.    share  [N] a = P(y_w preferred), clipped to 1 - CERTAIN.

    As beta -> 0 every pair with a > 1/2 is right; as beta -> infinity the order is the reference's. Raises ValueError
    for beta <= 0.
    """
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    ideal = gap + logit(np.clip(share, CERTAIN, 1 - CERTAIN)) / beta
    return np.asarray((np.sign(ideal) + 1) / 2)


def required_loss(gap: Floats, beta: float) -> Floats:
    """DPO's loss [N], in nats, to which a pair must fall until the preferred response is the likelier one.

        -log sigma(beta c),    c = log pi_ref(y_l)/pi_ref(y_w) = -gap

    A pair is ranked right exactly when its loss is at most this. Where the reference is right (gap > 0) it is above
    log 2, where training starts; where it is wrong by many nats it is near 0, and the pair stays wrong at this beta.
    """
    return np.logaddexp(0.0, beta * gap)


def out_of_reach(gap: Floats, beta: float) -> Floats:
    """1 for pairs [N] whose `required_loss` is below REACHED: they will stay in the wrong order at this beta."""
    return np.asarray(required_loss(gap, beta) < REACHED, dtype=np.float64)
