"""Finite decision processes: occupancy measures, successor features, values and constraints agree with each other."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.games.mdp import Infeasible, TabularMdp, deep_sea_treasure, policy_of


def drawn(seed: int = 0) -> TabularMdp:
    draw = np.random.default_rng(seed)
    return TabularMdp(
        transition=draw.dirichlet(np.ones(5), size=(5, 3)),
        reward=draw.standard_normal((5, 3, 2)),
        start=draw.dirichlet(np.ones(5)),
        discount=0.9,
    )


def test_the_linear_program_is_policy_iteration():
    mdp, weights = drawn(), np.array([0.3, 0.7])
    values, actions = mdp.optimal(mdp.reward @ weights)
    rho = mdp.best_occupancy(weights)
    assert weights @ mdp.worth(rho) == pytest.approx(mdp.start @ values.max(axis=1), abs=1e-8)
    np.testing.assert_array_equal(policy_of(rho).argmax(axis=1), actions)
    assert rho.sum() == pytest.approx(1 / (1 - mdp.discount))


def test_occupancy_returns_and_successor_features_are_one():
    mdp = drawn(1)
    policy = np.random.default_rng(2).dirichlet(np.ones(3), size=5)
    rho = mdp.occupancy(policy)
    np.testing.assert_allclose(mdp.worth(rho), mdp.returns(policy), atol=1e-10)
    psi, weights = mdp.successor_features(policy, mdp.reward), np.array([2.0, -1.0])
    np.testing.assert_allclose(psi @ weights, mdp.action_values(mdp.reward @ weights, policy), atol=1e-10)


def test_constraints_hold_and_a_mixture_meets_them():
    mdp = deep_sea_treasure("concave")
    rho = mdp.best_occupancy(np.array([1.0, 0.0]), {1: -10.0})
    treasure, steps = mdp.worth(rho)
    # 1 in one step or 124 in 19: half of each takes 10 steps
    assert steps == pytest.approx(-10.0, abs=1e-4) and treasure == pytest.approx(62.5, abs=1e-2)
    with pytest.raises(Infeasible):
        mdp.best_occupancy(np.array([1.0, 0.0]), {1: -0.5})


def test_a_treasure_is_as_far_as_it_is_deep_and_wide():
    mdp = deep_sea_treasure("convex")
    for weights, wanted in (((1.0, 0.0), (23.7, -19.0)), ((0.01, 1.0), (0.7, -1.0))):
        np.testing.assert_allclose(mdp.worth(mdp.best_occupancy(np.array(weights))), wanted, atol=1e-3)


def test_refuses_rows_that_are_no_distributions():
    good = drawn()
    with pytest.raises(ValueError, match="no distribution"):
        TabularMdp(transition=2 * good.transition, reward=good.reward, start=good.start, discount=0.9)
    with pytest.raises(ValueError, match="discount"):
        TabularMdp(transition=good.transition, reward=good.reward, start=good.start, discount=1.0)
