"""Accuracy against labels, with ties, soft labels and failures: failed questions stay in the denominator."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.core.calibration import side
from equipoise.core.intervals import Interval, clustered_share
from equipoise.evaluate.oracle_check.asked import Verdicts
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats


def accuracy(comparisons: Comparisons, verdicts: Verdicts) -> dict[str, Any]:
    """Agreement of an oracle with the labels; every share with an interval clustered by prompt.

    accuracy   comparisons with a decided label: 1 for the labelled side, 1/2 for a tie of the oracle, 0 for the other
               side and for no verdict
    strict     the same with a tie of the oracle counted as wrong (RewardBench)
    answered   `accuracy` among those with a verdict: failures left out
    expected   all comparisons: the chance of agreeing with one more annotator, l for side a, 1 - l for side b, 1/2 for
               a tie, of label l; no verdict 0. `ceiling` is its largest possible value, mean max(l, 1 - l)
    ties       how the oracle meets ties of the label, and how often it ties where the label decides
    """
    label, groups = comparisons.label, comparisons.groups
    said, truth = side(verdicts.prob), side(label)
    known = verdicts.answered
    decided = truth != 0
    credit = np.where(known, (said * truth + 1) / 2, 0.0)
    soft = np.where(known, 0.5 + np.nan_to_num(said) * (label - 0.5), 0.0)
    tied = known & (said == 0)
    return {
        "accuracy": _share(credit, groups, decided),
        "strict": _share((credit == 1).astype(float), groups, decided),
        "answered": _share(credit, groups, decided & known),
        "expected": _share(soft, groups),
        "ceiling": float(np.maximum(label, 1 - label).mean()),
        "comparisons": len(label),
        "failed": int((~known).sum()),
        "ties": {
            "label": int((~decided).sum()),
            "both": int((tied & ~decided).sum()),
            "oracle_where_label_decides": _share(tied.astype(float), groups, decided & known),
        },
        "soft_labels": int(((label > 0) & (label < 1) & decided).sum()),
    }


def _share(values: Floats, groups: list[Any], where: Any = None) -> Interval | None:
    keep = np.ones(len(values), bool) if where is None else where
    if not keep.any():
        return None
    return clustered_share(values[keep], [g for g, kept in zip(groups, keep, strict=True) if kept])
