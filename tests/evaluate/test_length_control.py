"""Length-controlled win rates: the fit against scikit-learn's, known cases, the benchmark's properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.evaluate import l1_logistic
from equipoise.evaluate.length_control import (
    Gamed,
    extreme,
    length_controlled,
    of_the_baseline,
    predicted_win_rate,
    standardised,
)


def drawn(n=240, *, theta=0.4, phi=-1.0, psi=0.0, seed=0, gap=0.0):
    """Soft preferences of a judge with a bias to length, lengths and difficulties."""
    random = np.random.default_rng(seed)
    baseline = random.integers(200, 2000, n).astype(float)
    candidate = baseline + gap + 400 * random.standard_normal(n)
    gamma = random.standard_normal(n)
    z = theta + phi * np.tanh(standardised(baseline, candidate)) + psi * gamma
    return 1 / (1 + np.exp(-z)), baseline, candidate, gamma


def test_the_fit_is_the_minimum_that_scikit_learn_finds():
    linear_model = pytest.importorskip("sklearn.linear_model")
    prob, baseline, candidate, gamma = drawn(120, psi=0.6, seed=3)
    x = np.column_stack([np.ones(120), np.tanh(standardised(baseline, candidate)), gamma])
    for c in (0.02, 0.3, 20.0):
        twice = linear_model.LogisticRegression(
            l1_ratio=1, solver="liblinear", C=c, fit_intercept=False, tol=1e-10, random_state=123
        ).fit(np.vstack([x, x]), np.r_[np.ones(120), np.zeros(120)], sample_weight=np.r_[prob, 1 - prob])
        assert l1_logistic.fit(x, prob, np.ones(120), c) == pytest.approx(twice.coef_[0], abs=2e-4)


def test_folds_are_those_of_scikit_learn():
    selection = pytest.importorskip("sklearn.model_selection")
    groups = np.repeat(np.arange(23), [1, 3, 2] * 7 + [4, 1])
    ours = l1_logistic.folds(groups, 5)
    for k, (_, held) in enumerate(selection.GroupKFold(5).split(groups, groups=groups)):
        assert np.array_equal(np.flatnonzero(ours == k), held)


def test_a_strong_penalty_gives_zero_and_a_weak_one_the_maximum_likelihood():
    x, prob = np.ones((4, 1)), np.array([0.2, 0.4, 0.6, 1.0])
    assert l1_logistic.fit(x, prob, np.ones(4), 1e-3) == 0
    assert l1_logistic.fit(x, prob, np.ones(4), 1e9) == pytest.approx(np.log(0.55 / 0.45), abs=1e-6)


def test_known_coefficients_are_found_again_and_length_is_taken_out():
    prob, baseline, candidate, gamma = drawn(600, theta=0.4, phi=-1.2, psi=0.5, gap=300.0)
    got = length_controlled(prob, baseline, candidate, difficulty=gamma)
    assert (got.theta, got.phi, got.psi) == pytest.approx((0.4, -1.2, 0.5), abs=0.02)
    assert got.value == pytest.approx(float((1 / (1 + np.exp(-(0.4 + 0.5 * gamma)))).mean()), abs=0.01)
    assert got.form == "without gamed rows"


def test_a_judge_that_only_counts_characters_is_one_half_at_equal_length():
    prob, baseline, candidate, _ = drawn(400, theta=0.0, phi=-2.0, gap=500.0)
    got = length_controlled(prob, baseline, candidate)
    assert prob.mean() > 0.7 and got.phi < 0
    assert abs(got.value - 0.5) < 0.01


def test_equal_lengths_leave_the_win_rate():
    prob = np.tile([0.9, 0.7, 0.5, 0.8], 60)
    got = length_controlled(prob, np.full(240, 100.0), np.full(240, 100.0))
    assert got.phi == 0 and got.value == pytest.approx(prob.mean(), abs=0.01)


def test_swapping_the_two_answers_mirrors_the_figure():
    prob, baseline, candidate, gamma = drawn(300, psi=0.4, seed=5)
    one = length_controlled(prob, baseline, candidate, difficulty=gamma)
    other = length_controlled(1 - prob, candidate, baseline, difficulty=gamma)
    assert one.value + other.value == pytest.approx(1, abs=1e-9)
    assert (other.theta, other.psi, other.phi) == pytest.approx((-one.theta, -one.psi, one.phi), abs=1e-6)


def test_gamed_rows_pin_the_effect_of_length():
    prob, baseline, candidate, gamma = drawn(300, phi=0.0)
    gamed = Gamed(
        prob=np.full(3000, 0.9), delta=np.full(3000, -3.0), difficulty=np.zeros(3000)
    )  # long versions win
    free = length_controlled(prob, baseline, candidate, difficulty=gamma)
    pinned = length_controlled(prob, baseline, candidate, difficulty=gamma, gamed=gamed)
    assert abs(free.phi) < 0.1 and pinned.phi < -0.5 and pinned.form == "full"


def test_missing_verdicts_are_left_out_of_the_fit_alone():
    prob, baseline, candidate, _ = drawn(250)
    holes = prob.copy()
    holes[::7] = np.nan
    kept = ~np.isnan(holes)
    got = length_controlled(holes, baseline, candidate)
    d = standardised(baseline, candidate)  # the standard deviation is of all rows
    fitted = l1_logistic.fit_cv(
        np.column_stack([np.ones(kept.sum()), np.tanh(d[kept])]), prob[kept], np.ones(kept.sum())
    )
    assert got.theta == pytest.approx(fitted.weights[0])


def test_the_interval_holds_the_value_and_narrows_with_more_prompts():
    few, many = (length_controlled(*drawn(n, seed=1)[:3], draws=60).interval for n in (60, 960))
    assert few["low"] < few["value"] < few["high"]
    assert many["high"] - many["low"] < 0.6 * (few["high"] - few["low"])


def test_the_baseline_against_itself_is_one_half_by_construction():
    assert of_the_baseline(7).value == 0.5
    equal = length_controlled(np.full(40, 0.5), np.arange(40.0), np.arange(40.0))
    assert equal.value == 0.5


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), *(st.floats(-4, 4) for _ in range(4)))
@settings(max_examples=50, deadline=None)
def test_predicted_rates_of_two_models_sum_to_one(gamma, a, b, c, d):
    assert predicted_win_rate(a, b, c, d, gamma) + predicted_win_rate(c, d, a, b, gamma) == pytest.approx(1)
    assert predicted_win_rate(a, b, a, b, gamma) == pytest.approx(0.5)


def test_extreme_changes_are_told():
    assert extreme(0.2, 0.05) and extreme(0.2, 0.45) and not extreme(0.2, 0.25)
    assert extreme(0.5, 0.37) and not extreme(0.5, 0.39)
    assert "penalty" in length_controlled(*drawn(50)[:3]).warning


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"difficulty": np.zeros(3)}, "one difficulty for each row"),
        ({"gamed": Gamed(prob=np.ones(1), delta=np.ones(1), difficulty=np.ones(1))}, "need the difficulties"),
        ({"prob": np.full(20, np.nan)}, "no comparison has a verdict"),
        ({"clusters": [0, 1] * 10}, "2 prompts are too few"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, says):
    given = {"prob": np.full(20, 0.7), "baseline_length": np.arange(20.0), "candidate_length": np.ones(20)}
    with pytest.raises(ValueError, match=says):
        length_controlled(**given | change)
