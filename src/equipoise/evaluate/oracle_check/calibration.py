"""Calibration: ECE, Brier score, log-loss and temperature of an oracle's probabilities against the labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from equipoise.core.calibration import bins, confidences, ece, places
from equipoise.core.folds import folds_of
from equipoise.core.intervals import POSITIVE, Interval, Rows, clustered_mean, jackknife
from equipoise.core.logistic import CLIP, LARGEST_LOSS, log_loss, logit, slope
from equipoise.evaluate.oracle_check.asked import Verdicts
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats
from equipoise.evaluate.oracle_check.length import finite

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
        "brier": clustered_mean(np.square(prob - label), groups, bounds=(0.0, 1.0)),
        "log_loss": clustered_mean(log_loss(score, label), groups, bounds=(0.0, LARGEST_LOSS)),
        "sharpness": sharpness,
        "temperature": _inverse(sharpness),
        "log_loss_cooled": cooled(score, label, groups, seed),
        "certain": int(((prob <= CLIP) | (prob >= 1 - CLIP)).sum()),
        "n": len(prob),
    }


def ece_of_noise(confidence: Floats, seed: int) -> float:
    """Mean ECE of hard labels that are drawn with the stated confidences."""
    place = places(confidence)
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
    return clustered_mean(loss, groups, bounds=POSITIVE)


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
