"""Length bias: how much of a verdict the difference in length predicts, beside the labels' own preference."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.core.calibration import side
from equipoise.core.intervals import Interval, Rows, clustered_share, jackknife
from equipoise.core.logistic import slope
from equipoise.evaluate.oracle_check.asked import Verdicts
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats


def length_bias(comparisons: Comparisons, verdicts: Verdicts) -> dict[str, Any]:
    """Length bias of an oracle and of the labels, on the comparisons with a verdict; intervals clustered by prompt.

        logit P(a beats b) = w z,    z = (characters of a - characters of b) / s,    s^2 = mean squared difference

    oracle, label   w of the verdicts and of the labels: by how many logits the answer gains that is longer by s. None
                    where no finite w exists (the longer one wins always, or never; or all lengths are equal)
    excess          oracle - label, on the same comparisons
    longer_wins     how often the oracle, `longer_wins_label` how often the label prefers the longer one, ties half;
                    comparisons of equal length left out and counted
    unit            s in characters

    Without intercept, so that the order of the two answers does not matter.
    """
    known = verdicts.answered
    groups = [g for g, kept in zip(comparisons.groups, known, strict=True) if kept]
    difference = _difference(comparisons)[known]
    prob, label = verdicts.prob[known], comparisons.label[known]
    unit = float(np.sqrt(np.mean(np.square(difference))))
    z = difference / unit if unit else difference
    different = difference != 0
    longer = np.sign(difference)

    def share(values: Floats) -> Interval | None:
        if not different.any():
            return None
        wins = (longer * side(values) + 1) / 2
        return clustered_share(
            wins[different], [g for g, kept in zip(groups, different, strict=True) if kept]
        )

    def gap(rows: Rows) -> float:
        return slope(z[rows], prob[rows]) - slope(z[rows], label[rows])

    return {
        "oracle": finite(jackknife(lambda rows: slope(z[rows], prob[rows]), groups)),
        "label": finite(jackknife(lambda rows: slope(z[rows], label[rows]), groups)),
        "excess": finite(jackknife(gap, groups)),
        "longer_wins": share(prob),
        "longer_wins_label": share(label),
        "unit": unit,
        "equal_lengths": int((~different).sum()),
        "n": len(difference),
    }


def _difference(comparisons: Comparisons) -> Floats:
    return np.array([len(row.a) - len(row.b) for row in comparisons.rows], dtype=np.float64)


def finite(interval: Interval) -> Interval | None:
    """The interval of a number, or None where there is no number."""
    return interval if np.isfinite(interval["value"]) else None
