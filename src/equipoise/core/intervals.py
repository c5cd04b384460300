"""Confidence intervals clustered by prompt: means, shares, any smooth statistic; Wilson for independent trials."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Clusters: TypeAlias = Sequence[Hashable] | npt.NDArray[Any]
Rows: TypeAlias = npt.NDArray[np.intp]

# Cluster sums closer to each other than this share of their scale are equal up to rounding.
_ROUNDING = 1e-12
MOST_GROUPS = 50  # of the jackknife


class Interval(TypedDict):
    """A mean with its two-sided interval; low and high are None where the data give none."""

    value: float
    low: float | None
    high: float | None
    n: int


def clustered_mean(
    values: Sequence[float] | npt.NDArray[np.float64], clusters: Clusters, level: float = 0.95
) -> Interval:
    """Mean of all values with a t-interval that treats each cluster (prompt) as one independent draw.

        m = sum_i v_i / n,     r_g = sum_{i in g} (v_i - m),     se^2 = G/(G-1) * sum_g r_g^2 / n^2
        interval = m -+ t_{G-1, (1+level)/2} * se

    values    [n] finite numbers in any unit; those of one prompt may depend on each other in any way.
    clusters  [n] the prompt of each value; G distinct prompts, with any numbers of values.

    m is a ratio of two cluster totals, so the linearised (cluster-robust) variance is exact for equal sizes
    and first order otherwise. It was preferred to a cluster bootstrap: the same first-order coverage, no
    random numbers, and t quantiles widen it where G is small, where the percentile bootstrap is too narrow.

    One cluster carries no information on the spread between prompts: low = high = None. If all clusters agree the
    formula gives an interval of width 0, which is overconfident; for values in [0, 1] use
    `clustered_share`. Raises ValueError for no values, unequal lengths, a value that is not finite, or level
    outside (0, 1).
    """
    value, se, groups, n = _spread(values, clusters, level)
    if se is None:
        return Interval(value=value, low=None, high=None, n=n)
    half = float(t.ppf((1 + level) / 2, groups - 1)) * se
    return Interval(value=value, low=value - half, high=value + half, n=n)


def clustered_share(
    values: Sequence[float] | npt.NDArray[np.float64], clusters: Clusters, level: float = 0.95
) -> Interval:
    """Mean of values in [0, 1] (win rates, shares) with a clustered interval that stays inside [0, 1].

    The Wilson interval of m at the effective number of trials m (1 - m) / se^2, with m, se and the t quantile
    of `clustered_mean`. Where all clusters agree (every prompt won) se is 0 and the G prompts count as G
    trials, so the interval never collapses to a point. One cluster: low = high = None.

    Raises ValueError as `clustered_mean` does, and for a value outside [0, 1]. Effective sample size in a
    binomial interval: Korn & Graubard 1998, with Wilson's form in place of Clopper-Pearson's (RECALLED).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError("a share is a mean of values in [0, 1]; use clustered_mean for anything else")
    value, se, groups, n = _spread(array, clusters, level)
    if se is None:
        return Interval(value=value, low=None, high=None, n=n)
    trials = value * (1 - value) / se**2 if se > 0 else float(groups)
    low, high = _wilson(value, trials, float(t.ppf((1 + level) / 2, groups - 1)))
    return Interval(value=value, low=low, high=high, n=n)


def jackknife(
    statistic: Callable[[Rows], float], clusters: Clusters, level: float = 0.95, groups: int = MOST_GROUPS
) -> Interval:
    """Delete-a-group jackknife interval of a statistic that is no mean: a kappa, a slope, a temperature.

        se^2 = (G-1)/G * sum_g (s_g - mean_g s_g)^2,     interval = s -+ t_{G-1, (1+level)/2} * se

    statistic  indices of rows -> the statistic of these rows; nan where they have none. Smooth: quantiles are not.
    clusters   [n] the prompt of each row. Prompts are dealt in turn into G = min(prompts, groups) groups; s is the
               statistic of all rows, s_g that of the rows outside group g.

    Linear statistics get the interval of `clustered_mean` to first order. It was preferred to a bootstrap: no random
    numbers, and G evaluations. low = high = None for one cluster, and if s or any s_g is not finite.
    Raises ValueError for no rows, groups < 2 or level outside (0, 1). Source: Shao & Tu 1995, section 2 (RECALLED).
    """
    _check_level(level)
    if not len(clusters) or groups < 2:
        raise ValueError(f"need at least one row and two groups, got {len(clusters)} and {groups}")
    index: dict[Hashable, int] = {}
    dealt = np.array([index.setdefault(cluster, len(index)) % groups for cluster in clusters])
    count, n = min(len(index), groups), len(clusters)
    value = float(statistic(np.arange(n)))
    if count < 2 or not np.isfinite(value):
        return Interval(value=value, low=None, high=None, n=n)
    without = np.array([statistic(np.flatnonzero(dealt != group)) for group in range(count)])
    if not np.isfinite(without).all():
        return Interval(value=value, low=None, high=None, n=n)
    se = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    half = float(t.ppf((1 + level) / 2, count - 1)) * se
    return Interval(value=value, low=value - half, high=value + half, n=n)


def bootstrap(
    value: float,
    statistic: Callable[[npt.NDArray[np.intp]], float],
    clusters: Clusters,
    *,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap over clusters (prompts), for statistics that are no means: fits, maxima, ratios.

    value      the statistic of all rows.     statistic  of the rows with these indices, nan where it has no value.
    clusters   [n] the prompt of each row; whole prompts are drawn with replacement.

    One cluster, or fewer than half of the draws with a value: low = high = None. Raises ValueError for no rows, no
    draws or a level outside (0, 1).
    """
    _check_level(level)
    if not len(clusters) or draws < 1:
        raise ValueError(f"need at least one row and one draw: {len(clusters)} and {draws}")
    rows: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        rows.setdefault(cluster, []).append(i)
    members = [np.array(group, dtype=np.intp) for group in rows.values()]
    if len(members) < 2:
        return Interval(value=value, low=None, high=None, n=len(clusters))
    random = np.random.Generator(np.random.Philox(seed))
    drawn = np.array(
        [
            statistic(np.concatenate([members[g] for g in random.integers(len(members), size=len(members))]))
            for _ in range(draws)
        ]
    )
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) < draws / 2:
        return Interval(value=value, low=None, high=None, n=len(clusters))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=len(clusters))


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for the share of successes in n independent trials (Wilson 1927).

        [ p + z^2/2n -+ z sqrt( p (1-p)/n + z^2/4n^2 ) ] / (1 + z^2/n),    p = successes/n

    Raises ValueError unless 0 <= successes <= n, n >= 1 and level is in (0, 1).
    """
    _check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    low, high = _wilson(successes / n, float(n), float(norm.ppf((1 + level) / 2)))
    return Interval(value=successes / n, low=low, high=high, n=n)


def _wilson(share: float, trials: float, quantile: float) -> tuple[float, float]:
    z2 = quantile**2 / trials
    centre = share + z2 / 2
    half = float(np.sqrt(z2 * share * (1 - share) + z2**2 / 4))
    return max(0.0, (centre - half) / (1 + z2)), min(1.0, (centre + half) / (1 + z2))


def _spread(
    values: Sequence[float] | npt.NDArray[np.float64], clusters: Clusters, level: float
) -> tuple[float, float | None, int, int]:
    """Mean, cluster-robust standard error (None for one cluster), number of clusters, number of values."""
    _check_level(level)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) != len(clusters) or len(array) == 0:
        raise ValueError(
            f"need one cluster per value and at least one value: {array.shape} and {len(clusters)}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{int((~np.isfinite(array)).sum())} of {len(array)} values are not finite")
    index: dict[Hashable, int] = {}
    member = [index.setdefault(cluster, len(index)) for cluster in clusters]
    n, groups = len(array), len(index)
    # Rounding may carry the mean of equal values past them, and a share past 1.
    value = float(np.clip(array.mean(), array.min(), array.max()))
    if groups < 2:
        return value, None, groups, n
    residual = np.bincount(member, weights=array - value, minlength=groups)
    if float(np.abs(residual).max()) <= _ROUNDING * n * max(float(np.abs(array).max()), 1e-300):
        return value, 0.0, groups, n
    return value, float(np.sqrt(groups / (groups - 1) * (residual**2).sum()) / n), groups, n


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
