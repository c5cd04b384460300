"""Calibration of preference probabilities: confidence and agreement with labels, reliability bins, ECE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from equipoise.core.logistic import CLIP, Floats

TIE = 1e-9  # how near to 1/2 a probability says tie
LIKELY = 1.920729  # half of the 95 % quantile of chi-square with one degree of freedom
NEAR = 1e-5  # precision of a flip rate
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


def likelihood_ece(logp: Floats) -> float:
    """Expected calibration error of likelihoods as judges of pairs (f-DPO), over BINS bins of equal width on [0, 1].

        q = exp(lp_w),    c = 1 where lp_w > lp_l, else 0;    ECE = sum_b n_b/n |mean_b c - mean_b q|

    logp   [N, 2] mean token log-probs lp of the preferred and the other response, in nats.

    Source: Wang et al. 2023 (2309.16240), the diagnostic of the authors' code.
    """
    return _unit_ece(np.exp(logp[:, 0]), (logp[:, 0] > logp[:, 1]).astype(float))


def top_label_ece(prob: Floats, label: npt.NDArray[np.int64]) -> float:
    """Expected calibration error of a classifier's top label, over BINS bins of equal width on [0, 1].

        q = max_k p_k,    c = 1 where argmax_k p_k is the label, else 0

    prob   [N, K] rows of probabilities; label [N].

    Source: Guo et al. 2017 (1706.04599).
    """
    return _unit_ece(prob.max(axis=1), (prob.argmax(axis=1) == label).astype(float))


def _unit_ece(confidence: Floats, right: Floats) -> float:
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def flip_rate(confidence: Floats, agreement: Floats) -> dict[str, float]:
    """Flip rate of labels by maximum likelihood, given a calibrated oracle of the true preferences.

        max over e in [0, 1/2] of  sum_i c_i log a_i + (1 - c_i) log(1 - a_i),    a_i = (1 - 2e) q_i + e

    confidence, agreement   [N] q and c as of `confidences`; a_i is the probability that a label agrees, if each label
                            is turned round with probability e, whatever the pair.

    The likelihood is concave in e; `low` and `high` end the 95 % likelihood interval. What an oracle that learnt from
    the same labels has taken over of their noise does not count: its value is then too small. An oracle that is too
    sure gives a value that is too large.
    """

    def likelihood(rate: float) -> float:
        agree = np.clip(rate + (1 - 2 * rate) * confidence, CLIP, 1 - CLIP)
        return float((agreement * np.log(agree) + (1 - agreement) * np.log1p(-agree)).sum())

    def rises(rate: float) -> bool:
        return likelihood(rate + NEAR) > likelihood(rate)

    best = _turn(rises, 0.0, 0.5)
    least = likelihood(best) - LIKELY
    low = _turn(lambda rate: likelihood(rate) < least, 0.0, best)
    high = _turn(lambda rate: likelihood(rate) >= least, best, 0.5)
    return {"value": best, "low": low, "high": high}


def _turn(before: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds from `low` up to some point stops to hold, to NEAR, by bisection.

    An end itself where it holds nowhere or everywhere.
    """
    if not before(low) or before(high):
        return high if before(high) else low
    while high - low > NEAR:
        middle = (low + high) / 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return (low + high) / 2


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
