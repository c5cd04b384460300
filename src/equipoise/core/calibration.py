"""Calibration of preference probabilities: confidence and agreement with labels, reliability bins, ECE."""

from __future__ import annotations

from typing import Any

import numpy as np

from equipoise.core.logistic import Floats

TIE = 1e-9  # how near to 1/2 a probability says tie
BINS = 10  # of equal width, on [1/2, 1]


def side(prob: Floats) -> Floats:
    """Preferred side of probabilities P(a beats b) [N]: 1 for a, -1 for b, 0 at a tie, nan where there is none."""
    return np.where(np.isnan(prob), np.nan, np.sign(prob - 0.5) * (np.abs(prob - 0.5) > TIE))


def ranked_right(logit: Floats, prob: Floats) -> Floats:
    """Accuracy of each pair [N]: 1 where z ranks it as its label p says, 0 where not, 1/2 where z or p is a tie."""
    return (np.sign(logit) * side(prob) + 1) / 2


def confidences(prob: Floats, label: Floats) -> tuple[Floats, Floats]:
    """Confidence in the preferred answer, and how far the label agrees with it: (q [N], c [N]).

        q = max(p, 1 - p) in [1/2, 1],    c = l if p > 1/2, 1 - l if p < 1/2, 1/2 at p = 1/2

    prob, label   [N] p = P(a beats b), and the label l in [0, 1]. Data mostly name the better answer first: p against
                  the constant label 1 would say nothing of calibration.
    """
    preferred = side(prob)
    return np.maximum(prob, 1 - prob), 0.5 + preferred * (label - 0.5)


def bins(confidence: Floats, agreement: Floats) -> list[dict[str, float]]:
    """Reliability diagram: the bins of equal width on [1/2, 1] that hold anything, with their means of q and c."""
    place = places(confidence)
    width = 0.5 / BINS
    return [
        {
            "from": round(0.5 + b * width, 3),
            "to": round(0.5 + (b + 1) * width, 3),
            "n": int((place == b).sum()),
            "confidence": float(confidence[place == b].mean()),
            "agreement": float(agreement[place == b].mean()),
        }
        for b in range(BINS)
        if (place == b).any()
    ]


def ece(confidence: Floats, agreement: Floats) -> float:
    """Expected calibration error ECE = sum_b n_b/n |mean_b c - mean_b q|, over BINS bins of equal width of q."""
    place = places(confidence)
    gaps = np.bincount(place, weights=agreement - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def places(confidence: Floats) -> Any:
    """[N] the bin of each confidence."""
    return np.clip(((confidence - 0.5) * 2 * BINS + 1e-9).astype(int), 0, BINS - 1)
