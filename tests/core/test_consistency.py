"""H-consistency bounds of comp-sum losses on random conditional distributions, and the shape of Psi."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.core.margins import consistency as c

TAUS = (0.0, 0.3, 0.5, 0.8, 1.0, 1.3, 1.5, 1.7, 2.0, 2.5)
LABELS = (2, 3, 5, 10)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("labels", LABELS)
def test_the_bound_holds_for_any_distribution_and_any_prediction(tau: float, labels: int):
    """Psi( excess zero-one risk ) <= excess comp-sum risk, of one conditional distribution: the gaps are 0 there."""
    rng = np.random.default_rng([labels, round(10 * tau)])
    prob = rng.dirichlet(np.full(labels, 0.7), size=1000)
    predicted = np.maximum(rng.dirichlet(np.full(labels, 0.7), size=1000), 1e-12)
    predicted /= predicted.sum(axis=1, keepdims=True)
    predicted[:300] = prob[:300].clip(1e-12)  # near the truth, where the bound is tight
    predicted[:300] = predicted[:300, ::-1] * 0.5 + predicted[:300] * 0.5
    wrong = prob.max(axis=1) - prob[np.arange(1000), predicted.argmax(axis=1)]
    excess = c.conditional_risk(prob, predicted, tau) - c.best_conditional_risk(prob, tau)
    assert excess.min() > -1e-9
    excess = np.maximum(excess, 0)
    assert (c.psi(wrong, tau, labels) <= excess + 1e-9).all()
    assert (c.gamma(excess, tau, labels) <= c.plain_bound(excess, tau, labels) + 1e-9).all()


def test_the_bound_is_tight_for_two_labels():
    """n = 2, p = (1 + b, 1 - b)/2: the least excess risk of a wrong decision, at equal scores, is Psi(b)."""
    for tau in (0.0, 0.5, 1.0):
        for b in (0.1, 0.5, 0.9):
            prob = np.array([[(1 + b) / 2, (1 - b) / 2]])
            even = np.array([[0.5, 0.5]])
            excess = c.conditional_risk(prob, even, tau) - c.best_conditional_risk(prob, tau)
            assert excess[0] == pytest.approx(float(c.psi(b, tau, 2)), rel=1e-9)


@pytest.mark.parametrize("tau", TAUS)
def test_psi_is_increasing_and_convex_from_zero_and_gamma_is_its_inverse(tau: float):
    b = np.linspace(0, 1, 201)
    values = c.psi(b, tau, 5)
    assert values[0] == pytest.approx(0.0, abs=1e-15)
    assert (np.diff(values) > 0).all() and (np.diff(values, 2) > -1e-12).all()
    assert c.gamma(values[1:], tau, 5) == pytest.approx(b[1:], abs=1e-6)


def test_psi_is_continuous_at_one():
    for near in (1 - 1e-5, 1 + 1e-5):
        assert c.psi(0.4, near, 5) == pytest.approx(float(c.psi(0.4, 1.0, 5)), rel=1e-3)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="excess zero-one risk"):
        c.psi(1.5, 1.0, 2)
    with pytest.raises(ValueError, match="two labels"):
        c.psi(0.5, 1.0, 1)
    with pytest.raises(ValueError, match="tau"):
        c.psi(0.5, -0.1, 2)
    with pytest.raises(ValueError, match="not negative"):
        c.gamma(-0.1, 1.0, 2)
