"""Preference dissection: which properties of a response an oracle, or the labels, reward, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.core.calibration import side
from equipoise.core.folds import folds_of
from equipoise.core.intervals import clustered_share
from equipoise.evaluate.oracle_check.calibration import FOLDS
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats
from equipoise.evaluate.oracle_check.laplace_logistic import CONVERGED, SCALE, maximum, sample
from equipoise.evaluate.oracle_check.properties import difference

LEAST = 30  # comparisons


def dissection(
    comparisons: Comparisons,
    probs: dict[str, Floats],
    annotated: Sequence[str] = (),
    seed: int = 0,
    scale: float = SCALE,
) -> dict[str, Any] | None:
    """Weights of properties in the verdicts of each rater: {rater -> P(a beats b) [N], nan: no verdict}.

        P(a beats b) = sigma(alpha . x),    alpha_f ~ Laplace(0, scale)

    x_f in {-1, 0, 1}: a has more of property f, or less, or neither.

    properties  names, see `properties.difference`
    raters      of each: mean, low, high (posterior mean and 95 % credible interval by Monte Carlo, [F]), map (the
                short-cut: weights of largest density), r_hat, converged, n, and held_out: the share of verdicts that
                the short-cut predicts on prompts it has not seen, with its interval (ties half)
    likeness    of every two raters, the correlation of their mean weights
    differs     share of comparisons in which a property differs, [F]

    Credible intervals take comparisons as independent. A weight says what goes with the verdict, not what causes it:
    properties that come together share it. None for fewer than LEAST comparisons or without a property that differs.
    Source: Li et al. 2024 (2402.11296).
    """
    names, x = difference(comparisons, annotated)
    if not names:
        return None
    groups = np.array([str(group) for group in comparisons.groups], dtype=object)
    raters: dict[str, Any] = {}
    for name, prob in probs.items():
        known = np.isfinite(prob)
        if known.sum() < LEAST:
            continue
        posterior = sample(x[known], prob[known], scale, seed=seed)
        raters[name] = {
            "mean": posterior.mean.tolist(),
            "low": posterior.quantile(0.025).tolist(),
            "high": posterior.quantile(0.975).tolist(),
            "map": maximum(x[known], prob[known], scale).tolist(),
            "r_hat": posterior.r_hat,
            "converged": posterior.r_hat < CONVERGED,
            "n": int(known.sum()),
            "held_out": _held_out(x[known], prob[known], groups[known].tolist(), scale, seed),
        }
    if not raters:
        return None
    said = list(raters)
    likeness = [
        {"one": one, "two": two, "correlation": _correlation(raters[one]["mean"], raters[two]["mean"])}
        for k, one in enumerate(said)
        for two in said[k + 1 :]
    ]
    return {
        "properties": names,
        "scale": scale,
        "raters": raters,
        "likeness": likeness,
        "differs": np.mean(x != 0, axis=0).tolist(),
    }


def _held_out(x: Floats, prob: Floats, groups: list[str], scale: float, seed: int) -> Any:
    folds = folds_of(groups, FOLDS, seed)
    if len(np.unique(folds)) < 2:
        return None
    score = np.empty(len(x))
    for fold in np.unique(folds):
        out = folds == fold
        score[out] = x[out] @ maximum(x[~out], prob[~out], scale)
    decided = side(prob) != 0
    if not decided.any():
        return None
    right = (np.sign(score) * side(prob) + 1) / 2
    return clustered_share(right[decided], [g for g, kept in zip(groups, decided, strict=True) if kept])


def _correlation(one: Sequence[float], two: Sequence[float]) -> float | None:
    if len(one) < 3 or not np.std(one) or not np.std(two):
        return None
    return float(np.corrcoef(one, two)[0, 1])
