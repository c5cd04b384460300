"""Bradley-Terry scores of models out of battles, with intervals by a bootstrap over prompts; Arena-Hard's figures."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from equipoise.core.intervals import Interval, Rows, bootstrap, resampled
from equipoise.core.logistic import Floats, log_loss, sigmoid

ELO = 400 / math.log(10)  # points of a rating for one nat
ANCHOR = 1000.0
RIDGE = 1e-8  # of a battle's weight; keeps the ratings of models finite that won or lost every battle
STRONG = 3  # battles that a verdict like A>>B counts for


@dataclass(frozen=True)
class Battles:
    """Battles of models: `first[i]` and `second[i]` are indices of `models`.

    prob [N]      credit of the first, 1 a win, 0 a loss, 1/2 a tie, or a probability
    weight [N]    how many battles each counts for
    prompts [N]   the prompt of each: whole prompts are resampled, never single battles
    """

    models: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    prob: Floats
    weight: Floats
    prompts: Sequence[Hashable]

    def __len__(self) -> int:
        return len(self.prob)


@dataclass(frozen=True)
class Rating:
    """A model's Bradley-Terry figures. rating None: it won or lost too much for a finite one (see `rated`).

    win_rate   P(it beats the baseline) under the fitted scores; with its interval
    battles    weight of its battles
    """

    model: str
    rating: float | None
    interval: tuple[float | None, float | None]
    win_rate: Interval
    battles: float

    def plain(self) -> dict[str, Any]:
        return dict(vars(self)) | {"interval": list(self.interval)}


def fit(battles: Battles, baseline: int, rows: Rows | None = None) -> Floats:
    """Bradley-Terry log-strengths [M] in nats by maximum likelihood, that of the baseline 0.

        P(a beats b) = s(theta_a - theta_b);   maximises sum_i w_i [ p_i log s + (1 - p_i) log(1 - s) ]

    rows   indices of the battles that are used; None: all. A ridge of 1e-8 of the total weight makes the maximum
    unique where it would lie at infinity; repeating all battles changes nothing.
    """
    rows = np.arange(len(battles)) if rows is None else rows
    first, second = battles.first[rows], battles.second[rows]
    weight, prob = battles.weight[rows], battles.prob[rows]
    count = len(battles.models)
    free = [m for m in range(count) if m != baseline]
    theta = np.zeros(count)
    ridge = RIDGE * max(float(weight.sum()), 1.0)

    def value(t: Floats) -> float:
        return float((weight * log_loss(t[first] - t[second], prob)).sum() + ridge / 2 * (t**2).sum())

    now = value(theta)
    for _ in range(200):
        q = sigmoid(theta[first] - theta[second])
        slope = weight * (q - prob)
        gradient = np.bincount(first, slope, count) - np.bincount(second, slope, count) + ridge * theta
        if np.abs(gradient[free]).max(initial=0.0) <= 1e-10 * max(float(weight.sum()), 1.0):
            break
        bend = weight * q * (1 - q)
        hessian = np.zeros((count, count))
        np.add.at(hessian, (first, first), bend)
        np.add.at(hessian, (second, second), bend)
        np.add.at(hessian, (first, second), -bend)
        np.add.at(hessian, (second, first), -bend)
        hessian += ridge * np.eye(count)
        step = np.zeros(count)
        step[free] = -np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        size = 1.0
        while size > 1e-10 and value(theta + size * step) > now:
            size /= 2
        if size <= 1e-10:
            break
        theta = theta + size * step
        now = value(theta)
    return theta


def finite(battles: Battles, baseline: int) -> np.ndarray:
    """[M] whether a model's strength relative to the baseline is finite: each has beaten the other, perhaps by way of
    third models."""
    won, lost = battles.prob > 0, battles.prob < 1
    winner = np.concatenate([battles.first[won], battles.second[lost]])
    loser = np.concatenate([battles.second[won], battles.first[lost]])
    count = len(battles.models)
    graph = coo_array((np.ones(len(winner)), (winner, loser)), shape=(count, count))
    _, component = connected_components(graph, directed=True, connection="strong")
    return component == component[baseline]


def rated(
    battles: Battles, baseline: str, *, draws: int = 200, seed: int = 0, level: float = 0.95
) -> list[Rating]:
    """Ratings 400 theta / ln 10 + 1000 of all models, the baseline at 1000, the best first.

    Intervals are percentiles of a bootstrap over prompts. With battles against the baseline alone, a model's win rate
    is its mean credit. Raises ValueError for no battle, or a baseline without one.
    """
    if not len(battles) or baseline not in battles.models:
        raise ValueError(f"no battle with the baseline {baseline!r}")
    anchor = battles.models.index(baseline)
    strength, sure = fit(battles, anchor), finite(battles, anchor)
    spread = len(set(battles.prompts)) > 1
    rows = resampled(battles.prompts, draws, seed) if spread else ()
    drawn = np.array([strength, *(fit(battles, anchor, chosen) for chosen in rows)])
    low, high = np.quantile(drawn[spread:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    win_rate, worst, best = sigmoid(strength), sigmoid(low), sigmoid(high)
    weights = np.bincount(battles.first, battles.weight, len(battles.models)) + np.bincount(
        battles.second, battles.weight, len(battles.models)
    )
    found = []
    for m, model in enumerate(battles.models):
        one = Interval(
            value=float(win_rate[m]),
            low=float(worst[m]) if spread else None,
            high=float(best[m]) if spread else None,
            n=round(float(weights[m])),
        )
        ends = (ELO * float(low[m]) + ANCHOR, ELO * float(high[m]) + ANCHOR)
        found.append(
            Rating(
                model,
                ELO * float(strength[m]) + ANCHOR if sure[m] else None,
                ends if spread and sure[m] else (None, None),
                one,
                float(weights[m]),
            )
        )
    return sorted(found, key=lambda r: -r.win_rate["value"])


def mean_scores(
    battles: Battles, model: int, *, draws: int = 100, seed: int = 0, level: float = 0.9
) -> Interval:
    """Arena-Hard 2.0's score of a model that is always the first of its battles: its mean credit, strong verdicts
    counted three times; a tie counts once whatever the weight. Interval by a bootstrap over prompts.

    The benchmark itself prints the mean of its resamples, which is this value up to their noise, and resamples single
    verdicts.
    """
    rows = np.flatnonzero(battles.first == model)
    prob, weight = battles.prob[rows], battles.weight[rows]

    def mean(of: np.ndarray) -> float:
        return float(np.average(prob[of], weights=weight[of]))

    own = [battles.prompts[int(i)] for i in rows]
    return bootstrap(mean(np.arange(len(rows))), mean, own, draws=draws, seed=seed, level=level)
