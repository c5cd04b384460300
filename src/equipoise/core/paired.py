"""Comparison of methods on the same seeds: paired sign-flip tests, Holm's correction, ranks with ties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from equipoise.core.intervals import Interval, bootstrap

Floats = npt.NDArray[np.float64]
Values = Sequence[float] | Sequence[int] | Floats
EXACT = 15  # pairs up to which all sign patterns are counted


def paired_interval(
    first: Values,
    second: Values,
    *,
    statistic: Callable[[Floats], float] = lambda values: float(np.median(values)),
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a statistic of the differences first[i] - second[i], whole pairs drawn with replacement.

    A pair is one seed and one checkpoint that both methods were run on. Raises ValueError for unequal lengths or none.
    """
    gaps = _differences(first, second)
    return bootstrap(
        statistic(gaps),
        lambda rows: statistic(gaps[rows]),
        list(range(len(gaps))),
        draws=draws,
        seed=seed,
        level=level,
    )


def sign_flip_test(first: Values, second: Values, *, draws: int = 20_000, seed: int = 0) -> float:
    """Two-sided p-value of the mean paired difference: of exchangeable methods, each sign is random.

    p = share of sign patterns s in {-1, 1}^n with |mean(s d)| >= |mean(d)|: all 2^n of them up to n = 15, else so many
    random ones and the observed one. The least p is 2^(1-n): five pairs cannot fall below 0.0625. Raises ValueError for
    unequal lengths or none. (Fisher 1935.)
    """
    gaps = _differences(first, second)
    if len(gaps) <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(gaps))))
    else:
        random = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(gaps)))
        signs = np.concatenate([np.ones((1, len(gaps))), random])
    means, own = np.abs(signs @ gaps), abs(float(gaps.sum()))
    return float((means >= own * (1 - 1e-12) - 1e-15).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: sorted p_(1) <= ... <= p_(m), adjusted p_(k) = max_{j <= k} min(1, (m - j + 1) p_(j)).

    Rejecting those at most alpha keeps the probability of any false rejection at alpha. Raises ValueError for a value
    that is no probability. (Holm 1979.)
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values must lie in [0, 1], got {list(p_values)}")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = running
    return adjusted


def ranks(values: Mapping[str, Values], *, alpha: float = 0.05) -> dict[str, int]:
    """Rank of each method by paired values, lower is better: 1 + the number of methods that are better beyond doubt.

    A method is better beyond doubt if its mean paired difference is negative and Holm's adjusted sign-flip p over all
    pairs of methods is at most alpha; methods that are not told apart share a rank. Raises ValueError for unequal
    lengths.
    """
    names = list(values)
    pairs = list(combinations(names, 2))
    adjusted = holm([sign_flip_test(values[a], values[b]) for a, b in pairs])
    rank = dict.fromkeys(names, 1)
    for (a, b), p in zip(pairs, adjusted, strict=True):
        if p <= alpha:
            rank[b if np.mean(values[a]) < np.mean(values[b]) else a] += 1
    return rank


def _differences(first: Values, second: Values) -> Floats:
    if len(first) != len(second) or not len(first):
        raise ValueError(f"paired values need equal numbers of runs, got {len(first)} and {len(second)}")
    gaps: Floats = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return gaps
