"""Logistic regression with an L1 penalty and soft labels, for few features; its strength chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core.logistic import Floats, log_loss, sigmoid

GRID = tuple(float(c) for c in np.logspace(-4, 4, 10))  # inverse strengths that are tried
STEPS = 200
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Fitted:
    """Coefficients [F] and the inverse strength C that they were fitted with."""

    weights: Floats
    c: float


def fit(x: Floats, prob: Floats, weight: Floats, c: float) -> Floats:
    """Minimiser w [F] of  |w|_1 + c sum_i weight_i [ prob_i softplus(-x_i w) + (1 - prob_i) softplus(x_i w) ].

    x [N, F] features, without an intercept; prob [N] soft labels in [0, 1]; weight [N] >= 0. The same function as
    that of rows given twice, with label 1 (weight prob) and label 0 (weight 1 - prob). Proximal Newton steps with a
    backtracking line search; stops where no coefficient's optimality condition is violated by more than 1e-9 of the
    gradient's scale.
    """
    w = np.zeros(x.shape[1])
    scale = max(c * float((weight[:, None] * np.abs(x)).sum()), 1.0)
    value = _objective(x, prob, weight, c, w)
    for _ in range(STEPS):
        q = sigmoid(x @ w)
        gradient = c * (x.T @ (weight * (q - prob)))
        if _violation(gradient, w) <= TOLERANCE * scale:
            break
        curvature = c * (x.T * (weight * q * (1 - q))) @ x + 1e-12 * scale * np.eye(len(w))
        step = _newton_target(curvature, gradient, w) - w
        drop = float(gradient @ step + np.abs(w + step).sum() - np.abs(w).sum())
        size = 1.0
        while True:
            proposed = _objective(x, prob, weight, c, w + size * step)
            if proposed <= value + 1e-4 * size * drop or size < 1e-8:
                break
            size /= 2
        if size < 1e-8:  # rounding leaves nothing to gain
            break
        w, value = w + size * step, proposed
    return w


def fit_cv(
    x: Floats,
    prob: Floats,
    weight: Floats,
    *,
    groups: Sequence[int] | None = None,
    splits: int = 5,
    grid: Sequence[float] = GRID,
) -> Fitted:
    """`fit` with the inverse strength of the lowest mean held-out log loss, the smallest one among equals.

    groups   [N] rows of one group stay in one fold (default: each row its own). Folds are filled as scikit-learn's
             GroupKFold does: the largest group first, each into the fold with the fewest rows.

    Raises ValueError for fewer groups than folds.
    """
    fold = folds(np.arange(len(x)) if groups is None else np.asarray(groups), splits)
    losses = np.zeros((splits, len(grid)))
    for k in range(splits):
        kept, left = fold != k, fold == k
        for j, c in enumerate(grid):
            q = np.clip(sigmoid(x[left] @ fit(x[kept], prob[kept], weight[kept], c)), 1e-15, 1 - 1e-15)
            entropy = prob[left] * np.log(q) + (1 - prob[left]) * np.log(1 - q)
            losses[k, j] = -(weight[left] * entropy).mean()
    c = float(grid[int(losses.mean(0).argmin())])
    return Fitted(fit(x, prob, weight, c), c)


def folds(groups: np.ndarray, splits: int) -> np.ndarray:
    """Fold of each row [N] in 0..splits-1. Raises ValueError for fewer groups than folds."""
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < splits:
        raise ValueError(
            f"{len(sizes)} prompts are too few to choose the strength of a penalty in {splits} folds"
        )
    home, filled = np.zeros(len(sizes), dtype=np.intp), np.zeros(splits, dtype=np.intp)
    for group in np.argsort(sizes, kind="stable")[::-1]:
        home[group] = lightest = int(filled.argmin())
        filled[lightest] += sizes[group]
    return home[member]


def _objective(x: Floats, prob: Floats, weight: Floats, c: float, w: Floats) -> float:
    return float(np.abs(w).sum() + c * (weight * log_loss(x @ w, prob)).sum())


def _violation(gradient: Floats, w: Floats) -> float:
    """Largest violation of 0 in gradient_j + d|w_j|."""
    at_zero = np.maximum(np.abs(gradient) - 1, 0)
    return float(np.where(w == 0, at_zero, np.abs(gradient + np.sign(w))).max())


def _newton_target(curvature: Floats, gradient: Floats, w: Floats) -> Floats:
    """Minimiser u of  gradient (u - w) + (u - w)' curvature (u - w) / 2 + |u|_1, by coordinate descent."""
    target = w.copy()
    for _ in range(500):
        before = target.copy()
        for j in range(len(w)):
            slope = gradient[j] + curvature[j] @ (target - w) - curvature[j, j] * target[j]
            target[j] = -np.sign(slope) * max(abs(slope) - 1, 0) / curvature[j, j]
        if float(np.abs(target - before).max()) <= 1e-13 * max(float(np.abs(target).max()), 1.0):
            break
    return target
