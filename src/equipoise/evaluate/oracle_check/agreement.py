"""Agreement between oracles: Cohen's kappa with ties, Krippendorff's alpha, correlation of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from equipoise.core.calibration import side
from equipoise.core.intervals import Interval, Rows, clustered_share, jackknife
from equipoise.evaluate.oracle_check.asked import Verdicts
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats
from equipoise.evaluate.oracle_check.length import finite


def cohen_kappa(one: Floats, two: Floats) -> float:
    """Cohen's kappa of two raters' categories [N] (any numbers; nan: not rated, left out).

        kappa = (p_o - p_e) / (1 - p_e),    p_e = sum_c share of c by one * share of c by two

    nan where nothing is rated by both, or chance alone agrees always. Source: Cohen 1960.
    """
    both = ~(np.isnan(one) | np.isnan(two))
    first, second = one[both], two[both]
    if not len(first):
        return float("nan")
    chance = sum(float((first == c).mean() * (second == c).mean()) for c in np.unique(first))
    if chance >= 1:
        return float("nan")
    return (float((first == second).mean()) - chance) / (1 - chance)


def krippendorff_alpha(ratings: Floats) -> float:
    """Krippendorff's alpha of nominal categories [raters, N]; nan: not rated.

        alpha = 1 - D_o/D_e,    D_o = sum_u m_u/n * P_u(disagree),    D_e = 1 - sum_c n_c (n_c - 1) / (n (n - 1))

    over units u with m_u >= 2 ratings; P_u is over the ordered pairs of ratings of the unit, n_c counts category c and
    n all ratings of such units. nan where no two ratings can disagree. Source: Krippendorff 2004.
    """
    rated = ~np.isnan(ratings)
    paired = rated.sum(axis=0) >= 2
    table, kept = ratings[:, paired], rated[:, paired]
    categories = np.unique(table[kept])
    counts = np.array([((table == c) & kept).sum(axis=0) for c in categories], dtype=np.float64)  # [C, U]
    if len(categories) < 2:
        return float("nan")
    m = counts.sum(axis=0)
    total = m.sum()
    observed = float(((m**2 - (counts**2).sum(axis=0)) / (m - 1)).sum() / total)
    n_c = counts.sum(axis=1)
    return 1 - observed / float(1 - (n_c * (n_c - 1)).sum() / (total * (total - 1)))


def both_ways(values: Floats) -> Floats:
    """Sides [.., N] of every comparison as it stands and swapped [.., 2N].

    Which answer stands first in the data is arbitrary, and often it is always the better one. Chance agreement must
    not depend on it, so every comparison counts once in each order.
    """
    return np.concatenate([values, -values], axis=-1)


def agreement(comparisons: Comparisons, raters: Sequence[Verdicts]) -> dict[str, Any]:
    """Agreement of every two raters and of all, the labels among them, on the side each prefers: a, b or a tie.

    kappa    Cohen's, with the tie as a category, comparisons counted in both orders (see `both_ways`)
    same     share of the same side, on the comparisons that both have answered
    correlation  of P - 1/2 in both orders: sum u v / sqrt(sum u^2 sum v^2)
    alpha    Krippendorff's, of all of three or more raters; failures are missing ratings

    All with intervals clustered by prompt; None where there is no number.
    """
    groups = comparisons.groups
    sides = np.array([side(rater.prob) for rater in raters])
    pairs = [
        _two(groups, raters[i], raters[j], sides[i], sides[j]) for i, j in combinations(range(len(raters)), 2)
    ]

    def alpha_of(rows: Rows) -> float:
        return krippendorff_alpha(both_ways(sides[:, rows]))

    return {"pairs": pairs, "alpha": _coefficient(alpha_of, groups) if len(raters) > 2 else None}


def _two(
    groups: Sequence[Hashable], one: Verdicts, two: Verdicts, first: Floats, second: Floats
) -> dict[str, Any]:
    both = ~(np.isnan(first) | np.isnan(second))
    known = [g for g, kept in zip(groups, both, strict=True) if kept]
    found: dict[str, Any] = {"one": one.name, "two": two.name, "n": int(both.sum())}
    if not known:
        return found | {"same": None, "kappa": None, "correlation": None}
    a, b = first[both], second[both]
    u, v = one.prob[both] - 0.5, two.prob[both] - 0.5

    def kappa_of(rows: Rows) -> float:
        return cohen_kappa(both_ways(a[rows]), both_ways(b[rows]))

    def correlation_of(rows: Rows) -> float:
        size = float(np.sqrt(np.sum(u[rows] ** 2) * np.sum(v[rows] ** 2)))
        return float(np.sum(u[rows] * v[rows])) / size if size else float("nan")

    return found | {
        "same": clustered_share((a == b).astype(float), known),
        "kappa": _coefficient(kappa_of, known),
        "correlation": _coefficient(correlation_of, known),
    }


def _coefficient(statistic: Callable[[Rows], float], groups: Sequence[Hashable]) -> Interval | None:
    """A coefficient of agreement between -1 and 1, with its interval; None where there is no number."""
    return finite(jackknife(statistic, groups, bounds=(-1.0, 1.0)))


def self_agreement(comparisons: Comparisons, verdicts: Verdicts) -> dict[str, Any] | None:
    """Self-agreement: the same question asked twice, in the same order; None if nothing was asked again.

    same      share of the same side        opposite  share of opposite sides (ties are neither)
    moved     mean |P - P'|                 failed    questions without a verdict in one of the two
    """
    count = len(verdicts.again)
    first, second = verdicts.forth[:count], verdicts.again
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return None
    groups = [g for g, kept in zip(comparisons.groups[:count], known, strict=True) if kept]
    one, two = side(first[known]), side(second[known])
    return {
        "same": clustered_share((one == two).astype(float), groups),
        "opposite": clustered_share((one * two < 0).astype(float), groups),
        "kappa": _coefficient(lambda rows: cohen_kappa(both_ways(one[rows]), both_ways(two[rows])), groups),
        "moved": float(np.abs(first - second)[known].mean()),
        "asked": count,
        "failed": int((~known).sum()),
    }
