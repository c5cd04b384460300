"""Calibration: ECE, Brier score, log-loss and temperature of an oracle's probabilities against the labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from equipoise.evaluate.intervals import Interval, Rows, clustered_mean, jackknife
from equipoise.evaluate.oracle_check.accuracy import side
from equipoise.evaluate.oracle_check.asked import Verdicts
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats
from equipoise.evaluate.oracle_check.length import finite
from equipoise.evaluate.oracle_check.logistic import CLIP, log_loss, logit, slope

BINS = 10  # of equal width, on [1/2, 1]
FOLDS = 5
RESAMPLES = 200


def calibration(comparisons: Comparisons, verdicts: Verdicts, seed: int = 0) -> dict[str, Any]:
    """Calibration on the comparisons with a verdict; intervals clustered by prompt.

        q = max(p, 1 - p),    c = l if p > 1/2, 1 - l if p < 1/2, 1/2 at p = 1/2
        ECE = sum_b n_b/n |mean_b c - mean_b q|,    Brier = mean (p - l)^2,    log-loss = mean cross-entropy in nats

    with p the verdict, l the label (soft labels as they are), and BINS bins of equal width of q.

    bins         of each bin: from, to, n, confidence (mean q), agreement (mean c)
    ece_of_noise ECE of a calibrated oracle, with as many labels of these confidences (mean of RESAMPLES draws): an ECE
                 near it says nothing
    temperature  T of sigma(logit(p)/T): above 1 the oracle is too sure; None where no positive finite T is the best.
                 `sharpness` is 1/T, whose interval always exists where 1/T is finite
    log_loss_cooled  log-loss at the temperature of the other folds of prompts (FOLDS); beside `log_loss_plain`
    certain      verdicts within CLIP of 0 or 1, which are clipped to CLIP for logits and log-loss
    """
    known = verdicts.answered
    groups = [g for g, kept in zip(comparisons.groups, known, strict=True) if kept]
    prob, label = verdicts.prob[known], comparisons.label[known]
    score = logit(prob)
    confidence, agreement = confidences(prob, label)

    def sharpness_of(rows: Rows) -> float:
        return slope(score[rows], label[rows])

    sharpness = finite(jackknife(sharpness_of, groups))
    return {
        "ece": ece(confidence, agreement),
        "ece_of_noise": ece_of_noise(confidence, seed),
        "bins": bins(confidence, agreement),
        "brier": clustered_mean(np.square(prob - label), groups),
        "log_loss": clustered_mean(log_loss(score, label), groups),
        "sharpness": sharpness,
        "temperature": _inverse(sharpness),
        "log_loss_cooled": cooled(score, label, groups, seed),
        "certain": int(((prob <= CLIP) | (prob >= 1 - CLIP)).sum()),
        "n": len(prob),
    }


def confidences(prob: Floats, label: Floats) -> tuple[Floats, Floats]:
    """(q, c): confidence in the preferred answer, and how far the label agrees with it."""
    preferred = side(prob)
    return np.maximum(prob, 1 - prob), 0.5 + preferred * (label - 0.5)


def bins(confidence: Floats, agreement: Floats) -> list[dict[str, float]]:
    """The reliability diagram: bins of equal width on [1/2, 1] that hold anything."""
    place = _places(confidence)
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
    """Expected calibration error: the mean over comparisons of their bin's |mean c - mean q|."""
    place = _places(confidence)
    gaps = np.bincount(place, weights=agreement - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def ece_of_noise(confidence: Floats, seed: int) -> float:
    """Mean ECE of hard labels that are drawn with the stated confidences."""
    place = _places(confidence)
    generator = np.random.default_rng(seed)
    drawn = [
        np.abs(np.bincount(place, weights=(generator.random(len(place)) < confidence) - confidence)).sum()
        for _ in range(RESAMPLES)
    ]
    return float(np.mean(drawn) / len(confidence))


def cooled(score: Floats, label: Floats, groups: Sequence[Hashable], seed: int) -> Interval | None:
    """Held-out log-loss after temperature scaling, the temperature of each fold of prompts from the other folds.

    None where some fold has no positive finite temperature.
    """
    folds = folds_of(groups, FOLDS, seed)
    loss = np.empty(len(score))
    for fold in range(FOLDS):
        out = folds == fold
        sharpness = slope(score[~out], label[~out]) if (~out).any() else float("nan")
        if out.any() and not 0 < sharpness < np.inf:
            return None
        loss[out] = log_loss(sharpness * score[out], label[out])
    return clustered_mean(loss, groups)


def folds_of(groups: Sequence[Hashable], count: int, seed: int) -> Any:
    """[N] the fold of each row: prompts dealt at random into `count` folds of nearly equal numbers of prompts."""
    names = list(dict.fromkeys(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[index]: place % count for place, index in enumerate(order)}
    return np.array([fold[group] for group in groups])


def _places(confidence: Floats) -> Any:
    return np.clip(((confidence - 0.5) * 2 * BINS + 1e-9).astype(int), 0, BINS - 1)


def _inverse(sharpness: Interval | None) -> Interval | None:
    """1/w with its interval, which is open above where w may be 0; None for w <= 0."""
    if sharpness is None or sharpness["value"] <= 0:
        return None
    low, high = sharpness["low"], sharpness["high"]
    return Interval(
        value=1 / sharpness["value"],
        low=1 / high if high else None,
        high=1 / low if low and low > 0 else None,
        n=sharpness["n"],
    )
