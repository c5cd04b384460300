"""Adversarial linear MDPs: planning by enumeration of policies, estimates in closed form, and what a run costs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from equipoise.games.repeated.adversarial_mdp import (
    LinearMdp,
    PolicyOptimiser,
    Tuning,
    best_value,
    covariance_inverse,
    dilated_bonus,
    occupancy,
    play_episodes,
    random_mdp,
    together,
)

SIZES = {"steps": 2, "states": 2, "actions": 2, "dimension": 3}
LEARNERS = [PolicyOptimiser(barrier=barrier, reduced=reduced) for barrier in (0, 1) for reduced in (0, 1)]


def value_of(mdp: LinearMdp, policy: np.ndarray, losses: np.ndarray) -> float:
    """Expected loss of run 0, path by path."""
    transitions = mdp.transitions[0].numpy()
    total = 0.0
    for s, a, t, b in product(range(2), repeat=4):
        prob = mdp.start[0, s] * policy[0, s, a] * transitions[0, s, a, t] * policy[1, t, b]
        total += float(prob) * (losses[0, s, a] + losses[1, t, b])
    return total


def test_the_best_value_is_that_of_the_best_deterministic_policy_and_occupancy_gives_values():
    mdp = random_mdp(3, **SIZES)
    losses = mdp.losses(torch.rand(1, 2, 3, dtype=torch.float64))
    table, values = losses[0].numpy(), []
    for choice in product(range(2), repeat=4):
        policy = np.eye(2)[np.array(choice).reshape(2, 2)]
        values.append(value_of(mdp, policy, table))
        visits = occupancy(mdp, torch.from_numpy(policy)[None])
        assert float((visits * losses).sum()) == pytest.approx(values[-1], abs=1e-12)
    assert float(best_value(mdp, losses)) == pytest.approx(min(values), abs=1e-12)


def test_the_bonus_is_the_recursion_written_out():
    mdp = random_mdp(4, **SIZES)
    policy = torch.tensor([[[0.3, 0.7], [0.6, 0.4]], [[0.5, 0.5], [0.1, 0.9]]], dtype=torch.float64)[None]
    inverse = covariance_inverse(
        mdp.features, occupancy(mdp, policy), torch.tensor([0.1], dtype=torch.float64)
    )
    found = dilated_bonus(mdp, inverse, policy, torch.tensor([0.2], dtype=torch.float64))[0].numpy()
    phi, inv, pi, move = (x[0].numpy() for x in (mdp.features, inverse, policy, mdp.transitions))
    norm = np.array([[[f @ inv[h] @ f for f in phi[h, s]] for s in range(2)] for h in range(2)])
    b = 0.2 * (norm + (pi * norm).sum(axis=2, keepdims=True))
    assert found[1] == pytest.approx(b[1], abs=1e-12)
    after = (pi[1] * b[1]).sum(axis=1)
    for s, a in product(range(2), repeat=2):
        assert found[0, s, a] == pytest.approx(b[0, s, a] + 1.5 * move[0, s, a] @ after, abs=1e-12)


def test_estimates_are_unbiased_without_a_ridge_and_the_reduced_one_is_bounded_below():
    mdp = random_mdp(5, steps=1, states=4, actions=3, dimension=3)
    policy = torch.full((1, 1, 4, 3), 1 / 3, dtype=torch.float64)
    visits = occupancy(mdp, policy)
    gamma = torch.tensor([1e-12], dtype=torch.float64)
    inverse = covariance_inverse(mdp.features, visits, gamma)
    losses = mdp.losses(torch.rand(1, 1, 3, dtype=torch.float64))
    for learner in LEARNERS:
        mean = torch.zeros_like(losses)
        for s, a in product(range(4), range(3)):
            path, ahead = mdp.features[:, None, :, s, a], losses[:, None, :, s, a]
            found = learner.estimate(mdp.features, inverse, visits, path, ahead)
            mean += visits[0, 0, s, a] * found
        assert torch.allclose(mean, losses, atol=1e-8)


def test_policies_are_distributions_for_every_step_and_do_not_change_with_a_constant():
    total = torch.randn(2, 2, 2, 2, dtype=torch.float64) * 100
    for learner in LEARNERS:
        for eta in (1e-3, 1.0, 10.0):
            tuning = Tuning(eta=torch.full((2,), eta).double(), gamma=torch.ones(2), beta=torch.ones(2))
            policy = learner.policy(total, tuning)
            assert torch.allclose(policy.sum(dim=3), torch.ones(2, 2, 2).double(), atol=1e-12)
            assert bool((policy >= 0).all()) and (not learner.barrier or bool((policy > 0).all()))
            assert torch.allclose(policy, learner.policy(total + 7, tuning), atol=1e-9)


def test_the_tuning_keeps_each_analysis_own_condition():
    mdp = random_mdp(0, **SIZES)
    plain, reduced = LEARNERS[0].tuning(mdp, [100, 6400]), LEARNERS[1].tuning(mdp, [100, 6400])
    assert torch.allclose(plain.eta * 2 / plain.gamma, torch.ones(2).double())  # eta H/gamma <= 1
    assert torch.allclose(reduced.eta * 2 / reduced.gamma.sqrt(), torch.ones(2).double())
    assert float(reduced.eta[0] / reduced.eta[1]) == pytest.approx(8)  # 64^(1/2)
    assert float(plain.eta[0] / plain.eta[1]) == pytest.approx(16)  # 64^(2/3)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_run_depends_on_its_own_seed_alone_and_zeros_cost_nothing(learner):
    mdps = [random_mdp(seed, **SIZES) for seed in (1, 2)]
    weights = torch.rand(2, 60, 2, 3, dtype=torch.float64)
    weights[0, 40:] = 0
    both = together(mdps)
    played = play_episodes(both, weights, learner, learner.tuning(both, [40, 60]), [1, 2])
    alone = play_episodes(mdps[0], weights[:1, :40], learner, learner.tuning(mdps[0], [40]), [1])
    assert float(played.regret[0]) == pytest.approx(float(alone.regret[0]), abs=1e-9)
    assert bool((played.regret > 0).all())


def test_learning_costs_less_than_the_uniform_policy():
    mdp = random_mdp(0, **SIZES)
    weights = torch.zeros(1, 300, 2, 3, dtype=torch.float64)
    weights[..., 1:] = 1
    uniform = torch.full((1, 2, 2, 2), 0.5, dtype=torch.float64)
    losses = mdp.losses(weights[:, 0])
    never = 300 * ((occupancy(mdp, uniform) * losses).sum() - best_value(mdp, losses)[0])
    for learner in LEARNERS:
        run = play_episodes(mdp, weights, learner, learner.tuning(mdp, [300]), [0])
        assert 0 < float(run.regret) < 0.95 * float(never)


def test_what_is_no_mdp_is_refused():
    mdp = random_mdp(0, **SIZES)
    with pytest.raises(ValueError, match="do not fit together"):
        LinearMdp(mdp.features, mdp.latent[:, :0], mdp.start)
    with pytest.raises(ValueError, match="start must be distributions"):
        LinearMdp(mdp.features, mdp.latent, 2 * mdp.start)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        weights = torch.full((1, 5, 2, 3), 2.0, dtype=torch.float64)
        play_episodes(mdp, weights, LEARNERS[0], LEARNERS[0].tuning(mdp, [5]), [0])
