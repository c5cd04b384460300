"""Held-out figures of a reward model: accuracy, calibration and temperature of logits whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.core.logistic import sigmoid
from equipoise.reward_models.measure import calibration


def test_by_hand():
    logit = np.log(np.array([9, 9, 4, 1 / 4]))  # 0.9, 0.9, 0.8, 0.2
    found = calibration(logit, np.array([1.0, 0.0, 1.0, 1.0]))
    # confidences 0.9 twice, right once; 0.8 twice, right once
    assert found["ece"] == pytest.approx((2 * 0.4 + 2 * 0.3) / 4)
    assert found["brier"] == pytest.approx((0.01 + 0.81 + 0.04 + 0.64) / 4)


@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_one_that_was_planted(planted):
    generator = np.random.default_rng(1)
    logit = generator.normal(0, 2, 40_000)
    label = (generator.random(40_000) < sigmoid(logit / planted)).astype(float)
    found = calibration(logit, label)
    assert found["temperature"] == pytest.approx(planted, rel=0.05)
    assert found["ece_tempered"] < 0.02
    assert calibration(-logit, label)["temperature"] is None  # the surer, the more often wrong


@pytest.mark.parametrize("logit", [[0.0, 0.0], [2.0, 1.0]], ids=["says nothing", "never wrong"])
def test_no_temperature_where_none_is_the_best(logit):
    found = calibration(np.array(logit), np.ones(2))
    assert found["temperature"] is found["ece_tempered"] is found["log_loss_tempered"] is None


def test_soft_labels_count_as_they_are():
    prob = np.array([0.75, 0.25, 0.5])
    logit = np.array([np.log(3), -np.log(3), 0.0])
    assert calibration(logit, prob)["ece"] == pytest.approx(0, abs=1e-12)
