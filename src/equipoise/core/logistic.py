"""Logistic regression of probabilities without intercept: swapping a comparison's answers changes nothing."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats: TypeAlias = npt.NDArray[np.float64]

CLIP = 1e-6  # probabilities are kept this far from 0 and 1 where their logit is read
LARGEST_LOSS = float(-np.log(CLIP))  # the log-loss of such a logit, in nats
STEPS, LONGEST, TOLERANCE = 100, 5.0, 1e-10
TOO_LARGE = 1e3  # a standardised slope beyond this is a separation, whose maximum is at infinity


def logit(prob: Floats) -> Floats:
    """log p/(1-p), of p clipped to [CLIP, 1 - CLIP]."""
    inside = np.clip(prob, CLIP, 1 - CLIP)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


def log_loss(score: Floats, target: Floats) -> Floats:
    """[N] -p log sigma(s) - (1 - p) log sigma(-s) in nats, of logits s and targets p in [0, 1]."""
    return np.asarray(target * np.logaddexp(0, -score) + (1 - target) * np.logaddexp(0, score))


def sigmoid(score: Floats) -> Floats:
    """1/(1 + exp(-s)), stable for any s."""
    return np.asarray(expit(score), dtype=np.float64)


def slope(feature: Floats, target: Floats) -> float:
    """Slope w of logit P = w x by maximum likelihood, for x [N] and targets [N] in [0, 1].

    Newton with bounded steps; the likelihood is concave. nan if x is 0 everywhere, +-inf if the sign of x says the
    target without exception, so that no finite slope is the best.
    """
    scale = float(np.sqrt(np.mean(np.square(feature)))) if len(feature) else 0.0
    if not scale > 0:
        return float("nan")
    x = feature / scale
    if _separated(x, target):
        return float(np.sign(np.sum(x * (target - 0.5))) * np.inf)
    w = 0.0
    for _ in range(STEPS):
        p = sigmoid(w * x)
        curve = float(np.sum(x * x * p * (1 - p)))
        step = float(np.sum(x * (target - p))) / max(curve, 1e-12)
        w += float(np.clip(step, -LONGEST, LONGEST))
        if abs(step) < TOLERANCE * (1 + abs(w)):
            break
    return w / scale if abs(w) < TOO_LARGE else float(np.sign(w) * np.inf)


def _separated(x: Floats, target: Floats) -> bool:
    told = x != 0
    side = np.sign(x[told])
    return bool((target[told] == (side + 1) / 2).all() or (target[told] == (1 - side) / 2).all())
