"""Preference elicitation: disagreement, pessimism, and when there is nothing left to ask."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.games.elicitation import (
    STRATEGIES,
    disagreement,
    elicit,
    fit_rewards,
    preference_disagreement,
    star_course,
    star_mdp,
    star_models,
)


def test_models_disagree_where_they_differ():
    agree, apart = np.eye(3)[[0, 1]], np.eye(3)[[0, 2]]
    assert disagreement(np.stack([agree, agree, apart])).tolist() == [0.0, 2.0]


def test_preference_disagreement_is_symmetric_within_bounds_and_zero_for_equal_rollouts():
    draw = np.random.default_rng(0)
    rewards, (one, other) = draw.standard_normal((5, 4)) * 9, draw.dirichlet(np.ones(4), size=2)
    found = preference_disagreement(rewards, one, other)
    assert found == pytest.approx(preference_disagreement(rewards, other, one)) and 0 < found <= 1
    assert preference_disagreement(rewards, one, one) == 0.0


def test_rewards_meet_their_gradient():
    draw = np.random.default_rng(1)
    x, answers, priors = (
        draw.standard_normal((30, 4)),
        draw.integers(2, size=30) * 1.0,
        draw.standard_normal((2, 4)),
    )
    weights = draw.exponential(size=(2, 30))
    for w, prior, own in zip(fit_rewards(x, answers, priors, weights, 0.3), priors, weights, strict=True):
        p = 1 / (1 + np.exp(-(x @ w)))
        np.testing.assert_allclose(x.T @ (own * (p - answers)) + 0.3 * (w - prior), 0, atol=1e-8)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pessimism_never_leaves_the_data(strategy: str):
    world = star_mdp(8, 3)
    models, counts = star_models(world, 3)
    untried = int(world.leaf.argmin())
    assert counts[untried].sum() == 0
    found = elicit(
        models,
        counts,
        lambda a, b: float(world.leaf[a] > world.leaf[b]),
        queries=12,
        strategy=strategy,  # type: ignore[arg-type]
        seed=0,
        transition_penalty=1e6,
    )
    assert untried not in found.arms[1:] and counts[list(found.arms)].sum(axis=1).min() > 0


def test_nothing_is_asked_where_all_members_agree():
    # only one arm reaches anything: no reward makes another one better
    models = np.tile(np.eye(3)[[0, 0, 0]], (2, 1, 1))
    found = elicit(models, np.ones((3, 3)), lambda a, b: 1.0, queries=4, strategy="simulated", seed=0)
    assert not found.asked and len(found.arms) == 5


def test_simulated_queries_are_of_different_leaves_and_learn():
    courses = np.array([star_course(seed, "simulated", queries=8) for seed in range(4)])
    assert courses[:, -1].mean() > courses[:, 0].mean() + 0.3


def test_an_unknown_strategy_is_refused():
    models, counts = star_models(star_mdp(5, 0), 0)
    with pytest.raises(ValueError, match="no strategy"):
        elicit(models, counts, lambda a, b: 1.0, queries=1, strategy="luck", seed=0)  # type: ignore[arg-type]
