"""Confidence intervals clustered by prompt: means, shares, any smooth statistic; Wilson for independent trials.

A statistic with bounds has an interval inside them: it is made on an unbounded scale (logit, or log of the distance to
the one bound) and carried back, so that no end is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtri, stdtrit

Clusters: TypeAlias = Sequence[Hashable] | npt.NDArray[Any]
Rows: TypeAlias = npt.NDArray[np.intp]
Bounds: TypeAlias = tuple[float, float]

UNBOUNDED: Bounds = (-np.inf, np.inf)
POSITIVE: Bounds = (0.0, np.inf)

# Cluster sums closer to each other than this share of their scale are equal up to rounding.
_ROUNDING = 1e-12
MOST_GROUPS = 50  # of the jackknife
LARGEST_EXPONENT = 600.0  # two prompts that differ widely leave one side all but open; its end stays a number


class Interval(TypedDict):
    """A mean with its two-sided interval; low and high are None where the data give none."""

    value: float
    low: float | None
    high: float | None
    n: int


def clustered_mean(
    values: Sequence[float] | npt.NDArray[np.float64],
    clusters: Clusters,
    level: float = 0.95,
    bounds: Bounds = UNBOUNDED,
) -> Interval:
    """Mean of all values with a t-interval that treats each cluster (prompt) as one independent draw.

        m = sum_i v_i / n,     r_g = sum_{i in g} (v_i - m),     se^2 = G/(G-1) * sum_g r_g^2 / n^2
        interval = m -+ t_{G-1, (1+level)/2} * se

    values    [n] finite numbers in any unit; those of one prompt may depend on each other in any way.
    clusters  [n] the prompt of each value; G distinct prompts, with any numbers of values.
    bounds    (a, b) between which every value must lie; the interval then stays between them. It is made for
              h(m) with the standard error h'(m) se, and carried back:

        h(m) = log (m - a)/(b - m)  of two finite bounds,    log (m - a) or log (b - m)  of one

    m is a ratio of two cluster totals, so the linearised (cluster-robust) variance is exact for equal sizes
    and first order otherwise. It was preferred to a cluster bootstrap: the same first-order coverage, no
    random numbers, and t quantiles widen it where G is small, where the percentile bootstrap is too narrow.

    One cluster carries no information on the spread between prompts: low = high = None. If all clusters agree the
    formula gives an interval of width 0, which is overconfident (but see `_between` for values that all lie on one
    of two bounds); for shares use `clustered_share`. Raises ValueError for no values, unequal lengths, a value that is
    not finite or outside the bounds, or level outside (0, 1).
    """
    value, se, groups, n = _spread(values, clusters, level)
    room = 1e-9 * max(1.0, abs(value))  # what arithmetic leaves of a bound
    if np.min(values) < bounds[0] - room or np.max(values) > bounds[1] + room:
        raise ValueError(f"values between {np.min(values)} and {np.max(values)} are outside {bounds}")
    if se is None:
        return Interval(value=value, low=None, high=None, n=n)
    low, high = _between(value, se, groups, level, bounds)
    return Interval(value=value, low=low, high=high, n=n)


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
    low, high = _wilson(value, trials, float(stdtrit(groups - 1, (1 + level) / 2)))
    return Interval(value=value, low=low, high=high, n=n)


def jackknife(
    statistic: Callable[[Rows], float],
    clusters: Clusters,
    level: float = 0.95,
    groups: int = MOST_GROUPS,
    bounds: Bounds = UNBOUNDED,
) -> Interval:
    """Delete-a-group jackknife interval of a statistic that is no mean: a kappa, a slope, a temperature.

        se^2 = (G-1)/G * sum_g (s_g - mean_g s_g)^2,     interval = s -+ t_{G-1, (1+level)/2} * se

    statistic  indices of rows -> the statistic of these rows; nan where they have none. Smooth: quantiles are not.
    clusters   [n] the prompt of each row. Prompts are dealt in turn into G = min(prompts, groups) groups; s is the
               statistic of all rows, s_g that of the rows outside group g.
    bounds     between which the statistic lies by its definition; the interval then stays between them, as that of
               `clustered_mean` does. For a correlation, between -1 and 1, this is Fisher's z.

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
    low, high = _between(value, se, count, level, bounds)
    return Interval(value=value, low=low, high=high, n=n)


def bootstrap(
    value: float,
    statistic: Callable[[Rows], float],
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
    if len(set(clusters)) < 2:
        return Interval(value=value, low=None, high=None, n=len(clusters))
    drawn = np.array([statistic(rows) for rows in resampled(clusters, draws, seed)])
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) < draws / 2:
        return Interval(value=value, low=None, high=None, n=len(clusters))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=len(clusters))


def resampled(clusters: Clusters, draws: int, seed: int) -> Iterator[Rows]:
    """Bootstrap resamples of whole clusters (prompts): for each draw the rows of as many clusters, with replacement."""
    found: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        found.setdefault(cluster, []).append(i)
    members = [np.array(group, dtype=np.intp) for group in found.values()]
    random = np.random.Generator(np.random.Philox(seed))
    for _ in range(draws):
        chosen = random.integers(len(members), size=len(members))
        yield np.concatenate([members[group] for group in chosen])


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for the share of successes in n independent trials (Wilson 1927).

        [ p + z^2/2n -+ z sqrt( p (1-p)/n + z^2/4n^2 ) ] / (1 + z^2/n),    p = successes/n

    Raises ValueError unless 0 <= successes <= n, n >= 1 and level is in (0, 1).
    """
    _check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    low, high = _wilson(successes / n, float(n), float(ndtri((1 + level) / 2)))
    return Interval(value=successes / n, low=low, high=high, n=n)


def _between(value: float, se: float, groups: int, level: float, bounds: Bounds) -> tuple[float, float]:
    """Ends of the t-interval of a value with this standard error, between its bounds.

    A value on one of two bounds has no logit and no spread: every prompt agrees with it. As with shares, the G prompts
    then count as G trials of Wilson's interval, so that perfect agreement of a few prompts is no certainty.
    """
    quantile = float(stdtrit(groups - 1, (1 + level) / 2))
    (low, high), half = bounds, quantile * se
    if low > -np.inf and high < np.inf:
        place = (value - low) / (high - low)
        if min(place, 1 - place) <= _ROUNDING:
            ends = _wilson(float(round(place)), float(groups), quantile)
        else:
            centre, half = np.log(place / (1 - place)), half / (high - low) / (place * (1 - place))
            ends = float(expit(centre - half)), float(expit(centre + half))
        return low + (high - low) * ends[0], low + (high - low) * ends[1]
    near, away = (low, 1) if low > -np.inf else (high, -1)
    distance = away * (value - near)
    if not half or distance == np.inf:
        return value - half, value + half
    factor = np.exp(min(half / distance, LARGEST_EXPONENT))
    ends_at = sorted((near + away * distance / factor, near + away * distance * factor))
    return float(ends_at[0]), float(ends_at[1])


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
