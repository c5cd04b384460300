"""Density ratio p(x | desirable)/p(x | undesirable) by logistic regression (BCO's importance weights)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.5, 10.0  # TRL's clamp of the ratio
SAMPLED = 1024  # at most this many rows of each class are fitted, as in TRL
RIDGE = 1.0  # L2 penalty on the coefficients, with a sum of losses: scikit-learn's default, which TRL uses


def odds_of_desirable(
    features: Floats, label: Floats, weight: Floats, uniforms: Callable[[int], Floats] | None
) -> Floats:
    """Odds p/(1 - p) of each row, p = P(label 1 | features) for balanced classes.

        min over (c, b) of  sum_i w_i softplus(-s_i (c . f_i + b)) + RIDGE |c|^2 / 2,    s_i = 2 label_i - 1

    features [N, F], label [N] of 0 and 1, both present; weight [N], scaled so that each class has half of the weight.
    uniforms   draws to subsample a class with more than `SAMPLED` rows; None: all rows are fitted.

    With balanced classes p/(1 - p) is the density ratio p(features | 1)/p(features | 0).
    """
    kinds = [np.flatnonzero(label == kind) for kind in (0.0, 1.0)]
    if uniforms is not None and max(map(len, kinds)) > SAMPLED:
        order = uniforms(len(label))
        kinds = [rows[order[rows].argsort()[:SAMPLED]] for rows in kinds]
    fitted = np.concatenate(kinds)
    total = len(fitted) / 2
    w = np.concatenate([weight[rows] * total / weight[rows].sum() for rows in kinds])
    f, sign = features[fitted], 2 * label[fitted] - 1

    from scipy.optimize import minimize  # a second of imports that every other method does without
    from scipy.special import expit

    def loss(point: Floats) -> tuple[float, Floats]:
        margin = sign * (f @ point[:-1] + point[-1])
        slope = -w * sign * expit(-margin)
        ridge = point[:-1] * RIDGE
        value = float((w * np.logaddexp(0, -margin)).sum() + ridge @ point[:-1] / 2)
        return value, np.append(f.T @ slope + ridge, slope.sum())

    fit = minimize(loss, np.zeros(f.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    with np.errstate(over="ignore"):  # overflow gives inf, which is clamped
        return np.exp(features @ fit.x[:-1] + fit.x[-1])
