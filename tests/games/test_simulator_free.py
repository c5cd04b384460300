"""Adversarial linear MDPs with unknown transitions: what own paths teach against what is known, and its cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.games.repeated.adversarial_mdp import (
    LinearMdp,
    PolicyOptimiser,
    Simulator,
    Tuning,
    best_value,
    covariance_inverse,
    dilated_bonus,
    occupancy,
    play_episodes,
    random_mdp,
    together,
)
from equipoise.games.repeated.simulator_free import FittedModel, OwnPaths, Schedule

SIZES = {"steps": 2, "states": 2, "actions": 2, "dimension": 3}
BARRIER, REDUCED = (
    PolicyOptimiser(barrier=True, reduced=False),
    PolicyOptimiser(barrier=False, reduced=True),
)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def by_hand(mdp: LinearMdp, weights: np.ndarray, eta: float, gamma: float, beta: float, seed: int) -> float:
    """Cost of exponential weights with reduced estimates and known transitions: one episode and number at a time."""
    phi, move, start = (x[0].numpy() for x in (mdp.features, mdp.transitions, mdp.start))
    steps, states, actions, dimension = phi.shape
    pairs = [(s, a) for s in range(states) for a in range(actions)]
    total, cost, draw = np.zeros(phi.shape[:3]), 0.0, np.random.default_rng([seed, 1])
    for v in weights:
        pi = np.exp(-eta * total)
        pi /= pi.sum(axis=2, keepdims=True)
        visits, at = np.zeros_like(pi), start
        for h in range(steps):
            visits[h] = at[:, None] * pi[h]
            if h + 1 < steps:
                at = sum(visits[h][s, a] * move[h, s, a] for s, a in pairs)
        loss = np.einsum("hsad,hd->hsa", phi, v)
        cost += float((visits * loss).sum())
        path, at = [], start
        for h, u in enumerate(draw.random(steps)):
            joint = np.cumsum([at[s] * pi[h, s, a] for s, a in pairs])
            path.append(pairs[int((joint < u * joint[-1]).sum())])
            at = move[h][path[-1]] if h + 1 < steps else at
        returns = [sum(loss[i][path[i]] for i in range(h, steps)) for h in range(steps)]
        after = np.zeros(states)
        for h in range(steps - 1, -1, -1):
            second = sum(visits[h][p] * np.outer(phi[h][p], phi[h][p]) for p in pairs)
            inverse = np.linalg.inv(gamma * np.eye(dimension) + second)
            norm = np.array([[f @ inverse @ f for f in row] for row in phi[h]])
            bonus = beta * (norm + (pi[h] * norm).sum(axis=1, keepdims=True))
            for s, a in pairs if h + 1 < steps else ():
                bonus[s, a] += (1 + 1 / steps) * move[h, s, a] @ after
            after = (pi[h] * bonus).sum(axis=1)
            for p in pairs:
                g = phi[h][p] @ inverse @ phi[h][path[h]]
                mean = sum(visits[h][q] * min(phi[h][p] @ inverse @ phi[h][q], 0) for q in pairs)
                total[h][p] += g * returns[h] - steps * min(g, 0) + steps * mean - bonus[p]
    return cost


def test_known_transitions_and_epochs_of_one_episode_are_the_algorithm_written_out():
    mdp = random_mdp(6, **SIZES)
    weights = torch.rand(1, 40, 2, 3, dtype=torch.float64)
    tuning = Tuning(eta=numbers(0.3), gamma=numbers(0.1), beta=numbers(0.05))
    run = play_episodes(mdp, weights, REDUCED, tuning, [3], Simulator(mdp))
    cost = by_hand(mdp, weights[0].numpy(), 0.3, 0.1, 0.05, 3)
    best = best_value(mdp, mdp.losses(weights.sum(dim=1)))
    assert float(run.regret + best) == pytest.approx(cost, abs=1e-9)
    assert torch.equal(run.regret, play_episodes(mdp, weights, REDUCED, tuning, [3]).regret)


class Recorder:
    """Own paths whose last reading is kept."""

    def __init__(self, knowledge: OwnPaths) -> None:
        self.knowledge, self.width = knowledge, knowledge.width

    def plays(self, policy, episodes):
        return self.knowledge.plays(policy, episodes)

    def read(self, policy, paths):
        self.reading = self.knowledge.read(policy, paths)
        return self.reading


def first_epoch(mdp: LinearMdp, width: int, weights: torch.Tensor, share: float, cover: torch.Tensor):
    """What one epoch of the uniform policy teaches."""
    knowledge = OwnPaths(mdp.features, width, share, [5])
    knowledge.cover = [cover]
    recorder = Recorder(knowledge)
    tuning = Tuning(eta=numbers(0.1), gamma=numbers(0.01), beta=numbers(0.1))
    play_episodes(mdp, weights.expand(1, width, *weights.shape), BARRIER, tuning, [5], recorder)
    return recorder.reading


def test_covariance_estimate_bonus_and_transitions_become_those_that_are_known():
    mdp = random_mdp(4, **SIZES)
    weights = torch.rand(2, 3, dtype=torch.float64)
    uniform = torch.full((1, 2, 2, 2), 0.5, dtype=torch.float64)
    cover, share, gamma = (
        torch.eye(2, dtype=torch.float64)[torch.tensor([[[0, 1], [1, 1]]])],
        0.4,
        numbers(1e-9),
    )
    losses = mdp.losses(weights[None])
    q = losses.clone()
    q[:, 0] += mdp.ahead(0, losses[:, 1].mean(dim=2))
    mixed = (1 - share) * occupancy(mdp, uniform) + share * occupancy(mdp, cover)
    exact = covariance_inverse(mdp.features, mixed, gamma)
    bonus = dilated_bonus(mdp, exact, uniform, numbers(0.1))
    value = numbers(0.3, 2.0)[None]
    errors = []
    for width in (200, 40_000):
        found = first_epoch(mdp, width, weights, share, cover)
        inverse = covariance_inverse(mdp.features, found.visits, gamma)
        estimates = [
            learner.estimate(mdp.features, inverse, found.visits, found.path, found.ahead)
            for learner in (BARRIER, REDUCED)
        ]
        pairs = [
            (found.visits, mixed),
            *((estimate, q) for estimate in estimates),
            (dilated_bonus(found.model, inverse, uniform, numbers(0.1)), bonus),
            (found.model.ahead(0, value), mdp.ahead(0, value)),
        ]
        errors.append([float(((a - b).abs() / b.abs().amax()).amax()) for a, b in pairs])
    assert max(errors[1]) < 0.05
    assert all(late < early for early, late in zip(*errors, strict=True))


def test_the_next_state_of_what_was_never_met_is_optimistic_and_values_stay_in_their_range():
    features = random_mdp(7, **SIZES).features
    empty = FittedModel.of(features, torch.zeros(1, 1, 2, 2, 2).double(), torch.zeros(1, 2, 2, 2).double())
    value = numbers(1.0, 3.0)[None]
    size = features[:, 0].square().sum(dim=3).sqrt()
    assert torch.allclose(empty.ahead(0, value), 1 + 2 * 0.1 * 3**0.5 * size)
    counts = torch.zeros(1, 1, 2, 2, 2).double()
    counts[..., 1] = 1e6
    seen = FittedModel.of(features, counts, torch.full((1, 2, 2, 2), 1e6).double())
    assert torch.allclose(seen.ahead(0, value), numbers(3.0), atol=1e-2)
    assert float(seen.ahead(0, value).amax()) <= 3


def lock(steps: int, actions: int) -> LinearMdp:
    """Two states, and one feature for each state and action: only the last action of state 1 stays in it."""
    features = torch.eye(2 * actions, dtype=torch.float64).view(1, 1, 2, actions, -1)
    latent = torch.zeros(1, steps - 1, 2 * actions, 2, dtype=torch.float64)
    latent[..., 0] = 1
    latent[:, :, -1] = numbers(0, 1)
    return LinearMdp(features.repeat(1, steps, 1, 1, 1), latent, numbers(0, 1)[None])


def test_the_policy_cover_reaches_what_the_uniform_policy_hardly_meets():
    mdp = lock(4, 4)
    knowledge = OwnPaths(mdp.features, 20, 0.5, [1])
    tuning = Tuning(eta=numbers(1e-9), gamma=numbers(0.1), beta=numbers(0.0))
    play_episodes(mdp, torch.zeros(1, 600, 4, 8).double(), BARRIER, tuning, [1], knowledge)
    uniform, *curious = [float(occupancy(mdp, policy)[0, -1, 1].sum()) for policy in knowledge.cover]
    assert uniform == pytest.approx(1 / 64) and len(curious) == 30
    assert sum(curious) / 30 > 1 / 4


def test_the_schedule_has_the_derived_powers_and_refuses_what_has_none():
    features = random_mdp(0, **SIZES).features
    few, many = (Schedule.of(REDUCED, features, k) for k in (40_000, 640_000))
    assert many.width / few.width == pytest.approx(4, rel=0.01)  # W ~ K^(1/2)
    assert float(few.tuning.eta / many.tuning.eta) == pytest.approx(2, rel=0.01)  # eta ~ (W/K)^(1/2)
    assert float(few.tuning.gamma) == pytest.approx(3 / few.width)
    assert few.share / many.share == pytest.approx(2, rel=0.01)
    for k in (2, 3, 10, 1000):
        small = Schedule.of(BARRIER, features, k)
        assert 2 <= small.width <= k and small.width % 2 == 0 and 0 < small.share <= 1
    with pytest.raises(ValueError, match="two episodes"):
        Schedule.of(BARRIER, features, 1)
    with pytest.raises(ValueError, match="no tuning without a simulator"):
        Schedule.of(PolicyOptimiser(barrier=False, reduced=False), features, 100)


@pytest.mark.parametrize("learner", [BARRIER, REDUCED])
def test_a_run_depends_on_its_own_seed_alone(learner):
    mdps = [random_mdp(seed, **SIZES) for seed in (1, 2)]
    weights = torch.rand(2, 70, 2, 3, dtype=torch.float64)

    def regret(mdp: LinearMdp, losses: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        plan = Schedule.of(learner, mdp.features, 70)
        own = OwnPaths(mdp.features, plan.width, 0.3, seeds)
        return play_episodes(mdp, losses, learner, plan.tuning, seeds, own).regret

    both = regret(together(mdps), weights, [1, 2])
    assert 70 % Schedule.of(learner, mdps[0].features, 70).width  # the last epoch is shorter
    for i, seed in enumerate((1, 2)):
        assert float(both[i]) == pytest.approx(float(regret(mdps[i], weights[i : i + 1], [seed])), abs=1e-9)
    assert float(regret(mdps[0], weights[:1], [8])) != pytest.approx(float(both[0]), abs=1e-6)


@pytest.mark.parametrize("learner", [BARRIER, REDUCED])
def test_learning_from_own_paths_costs_less_than_the_uniform_policy(learner):
    mdp = random_mdp(0, **SIZES)
    weights = torch.zeros(1, 2000, 2, 3, dtype=torch.float64)
    weights[..., 1:] = 1
    uniform = torch.full((1, 2, 2, 2), 0.5, dtype=torch.float64)
    losses = mdp.losses(weights[:, 0])
    never = 2000 * ((occupancy(mdp, uniform) * losses).sum() - best_value(mdp, losses)[0])
    plan = Schedule.of(learner, mdp.features, 2000)
    own = OwnPaths(mdp.features, plan.width, plan.share, [0])
    run = play_episodes(mdp, weights, learner, plan.tuning, [0], own)
    assert 0 < float(run.regret) < 0.8 * float(never)
