"""Calibration of likelihoods and the flip rate of labels, by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from equipoise.core.calibration import flip_rate, likelihood_ece


def test_the_calibration_error_of_likelihoods_by_hand():
    """Confidences 0.25 (right), 0.25 (wrong), 0.85 (wrong): bins of gaps 1 - 0.5 and 0.85, of three pairs."""
    logp = np.log(np.array([[0.25, 0.1], [0.25, 0.5], [0.85, 0.9]]))
    assert likelihood_ece(logp) == pytest.approx((0.5 + 0.85) / 3)
    assert likelihood_ece(np.array([[0.0, -1.0]])) == 0  # sure and right: the last bin holds 1 itself


def test_the_flip_rate_by_hand():
    """Of ten labels of a sure oracle three disagree: the likelihood e^3 (1 - e)^7 is largest at 0.3."""
    found = flip_rate(np.ones(10), np.array([0.0] * 3 + [1.0] * 7))
    assert found["value"] == pytest.approx(0.3, abs=1e-4)
    least = 3 * log(0.3) + 7 * log(0.7) - 1.920729
    assert 3 * log(found["low"]) + 7 * log(1 - found["low"]) == pytest.approx(least, abs=1e-3)
    assert found["high"] == 0.5  # there the likelihood is still within the interval


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_the_flip_rate_of_labels_of_a_calibrated_oracle_is_found(rate):
    """Labels drawn by the oracle's own probabilities, and then turned round at the rate: it lies in the interval."""
    draw = np.random.default_rng(7)
    confidence = draw.uniform(0.5, 1.0, 20_000)
    true = draw.random(20_000) < confidence
    agreement = np.where(draw.random(20_000) < rate, ~true, true).astype(float)
    found = flip_rate(confidence, agreement)
    assert found["low"] <= rate <= found["high"] and found["high"] - found["low"] < 0.06
    assert abs(found["value"] - rate) < 0.03


def test_nothing_to_go_by_gives_the_whole_interval():
    """An oracle that is never surer than a coin says nothing of flips."""
    found = flip_rate(np.full(4, 0.5), np.ones(4))
    assert (found["low"], found["high"]) == (0.0, 0.5)
