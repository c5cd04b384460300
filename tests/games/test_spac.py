"""SPAC: the explicit critic, its saddle point, coverage, and agreement with the practical objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from equipoise.core.objectives import Dpo, Spac
from equipoise.games import NotConverged, PairData, TabularPolicy, enumerate_data, minimise, offline, zoo
from equipoise.games.closed_form import spac_saddle
from equipoise.games.expectation import loss
from equipoise.games.preference import PreferenceGame
from equipoise.games.spac_t import actor_step, critic, critic_value, spac_step_exact, spac_t
from equipoise.methods.index import get
from equipoise.worlds.table.play_game import play_game

INF = float("inf")
DOUBLE = torch.float64


def uniform(size: int) -> TabularPolicy:
    return TabularPolicy(torch.zeros(1, size, dtype=DOUBLE))


def some_pairs(size: int, seed: int) -> PairData:
    counts = np.random.default_rng(seed).integers(5, 40, size=(1, size, size)).astype(float)
    return PairData(torch.as_tensor(counts) * (1 - torch.eye(size, dtype=DOUBLE)))


def two_arms(p: float) -> PairData:
    return offline.from_pairs([(0, 0, 1, p), (0, 1, 0, 1 - p)], 1, 2)


@pytest.mark.parametrize("lam", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("bound", [0.5, 3.0])
def test_the_critic_agrees_with_a_general_solver(lam, bound):
    for seed in range(4):
        data, policy = (
            some_pairs(4, seed),
            TabularPolicy.from_probs(np.random.default_rng(seed).dirichlet(np.ones(4))[None]),
        )

        def value(f, data=data, policy=policy):
            return float(critic_value(data, policy, torch.as_tensor(f)[None], lam=lam))

        found = value(critic(data, policy, lam=lam, bound=bound)[0].numpy())
        other = minimize(value, np.zeros(4), bounds=[(-bound, bound)] * 4, method="L-BFGS-B", tol=1e-14)
        assert found <= other.fun + 1e-12
        assert found == pytest.approx(other.fun, abs=1e-7)


def test_a_response_outside_the_data_gets_the_worst_critic():
    data = offline.from_pairs([(0, 0, 1, 6), (0, 1, 0, 4)], 1, 3)
    f = critic(data, uniform(3), lam=1.0, bound=2.0)
    assert f[0, 2].item() == -2.0
    with pytest.raises(NotConverged, match="no minimiser"):
        critic(data, uniform(3), lam=1.0)


def test_certain_preferences_are_played_within_the_box():
    """Where every win is certain no lambda gives the critic a minimiser; the box does, and binds nowhere else."""
    spac = get("spac").with_parameters({**get("spac").exact, "w_pref": 100.0})
    for size, reference in ((2, [0.1, 0.9]), (3, [0.1, 0.2, 0.7]), (5, [0.2] * 5)):
        certain = torch.triu(torch.ones(size, size, dtype=DOUBLE), 1) + 0.5 * torch.eye(size, dtype=DOUBLE)
        game = PreferenceGame(certain, reference)
        found = play_game(game, spac, rounds=40)
        assert found["policy"][0][0] == pytest.approx(1.0, abs=1e-6)
        assert found["gap0"][-1] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(NotConverged, match="such as clip=10"):
        play_game(
            PreferenceGame(certain, [0.1, 0.1, 0.1, 0.1, 0.6]), spac.with_parameters({"clip": INF}), rounds=40
        )
    boxed, free = (
        play_game(zoo.make("brps"), spac.with_parameters({"clip": clip}), rounds=40)["policy"]
        for clip in (10.0, INF)
    )
    np.testing.assert_allclose(boxed, free, atol=1e-12)


@pytest.mark.parametrize("lam", [0.3, 0.8, 1.0, 1.1])
def test_the_saddle_point_has_a_closed_form(lam):
    data = some_pairs(4, 0)
    run = spac_t(data, uniform(4), lam=lam, bound=5.0, eta=0.05, rounds=4000)
    saddle = spac_saddle(data.winner, data.loser, lam)
    assert (run.last.probs() - saddle.probs()).abs().max() < 1e-6
    assert run.critic.max() - run.critic.min() < 1e-5  # the critic is constant there


def test_special_saddle_points():
    data = some_pairs(4, 1)
    assert torch.allclose(spac_saddle(data.winner, data.loser, 1.0).probs(), data.winner)
    assert torch.allclose(spac_saddle(data.winner, data.loser, 0.0).probs(), data.mu)
    with pytest.raises(ValueError, match="outside the simplex"):
        spac_saddle(data.winner, data.loser, 50.0)


@pytest.mark.parametrize(("lam", "expected"), [(0.25, 0.55), (0.5, 0.60), (1, 0.70), (2, 0.90), (5, 1.0)])
def test_two_arms(lam, expected):
    run = spac_t(two_arms(0.7), uniform(2), lam=lam, bound=5.0, eta=0.1, rounds=3000)
    assert run.last.probs()[0, 0].item() == pytest.approx(expected, abs=1e-6)


def practical_limit(objective: Spac, data: PairData, rounds: int) -> float:
    log_pi = uniform(2).log_probs()
    for _ in range(rounds):
        rows = enumerate_data(data.share, log_pi.exp())
        log_pi = minimise(objective, *rows, start=log_pi, anchors={"previous": log_pi})
    return float(log_pi[0, 0].exp())


@pytest.mark.parametrize("lam", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("w_pess", [1.0, 0.5])
def test_two_arms_under_the_smoothed_objective(lam, w_pess):
    """Core's smooth mode carries the factor 2 that makes it agree with the linear one to first order."""
    limit = practical_limit(Spac(b=0.5, w_pref=lam, w_pess=w_pess), two_arms(0.7), rounds=50)
    assert limit == pytest.approx(min(1, 0.5 + lam / w_pess * 0.2), abs=2e-5)


def test_small_lambda_resists_the_lucky_arm():
    data = offline.from_pairs([(0, 0, 1, 60), (0, 1, 0, 40), (0, 2, 0, 1)], 1, 3)
    lams = torch.tensor([5.0, 10.0, 30.0, 1000.0], dtype=DOUBLE)
    start = TabularPolicy.from_probs([[0.4, 0.4, 0.2]] * 4)
    run = spac_t(offline.stack([data] * 4), start, lam=lams, bound=2.0, eta=0.05, rounds=3000)
    expected = [(0.931, 0.039, 0.030), (0.931, 0.015, 0.055), (0.836, 0.011, 0.154), (0.002, 0.002, 0.996)]
    for row, values in zip(run.mixture().probs().tolist(), expected, strict=True):
        assert row == pytest.approx(values, abs=5.1e-4)
    greedy = critic(data, TabularPolicy.from_probs(data.mu), lam=1.0, bound=2.0)  # rel vanishes: plain MLE
    assert greedy.argmax().item() == 2


@pytest.mark.parametrize("seed", range(3))
def test_practical_argmin_is_critic_step_and_mirror_step(seed):
    lam, eta = 4.0, 0.5
    game = zoo.random(5, seed)
    pi = TabularPolicy(torch.as_tensor(np.random.default_rng(seed).normal(size=(1, 5)) * 0.3))
    data = offline.population(game, uniform(5))
    exact = spac_step_exact(data, pi, lam=lam, eta=eta)
    objective = Spac(b=1 / eta, w_pref=lam, w_pess=1.0, mode="linear", clip=INF)
    rows = enumerate_data(data.share, pi.probs())
    fitted = minimise(objective, *rows, start=pi.logits, anchors={"previous": pi.log_probs()})
    assert (fitted - exact.log_probs()).abs().max() < 1e-9


def test_large_lambda_is_dpo_from_the_previous_policy():
    eta, game = 0.5, zoo.random(5, 3)
    pi, data = game.initial(), offline.population(game, uniform(5))
    dpo = minimise(
        Dpo(beta=1 / eta), *enumerate_data(data.share), start=pi.logits, anchors={"reference": pi.log_probs()}
    )
    error = [
        float((spac_step_exact(data, pi, lam=lam, eta=eta).log_probs() - dpo).abs().max())
        for lam in (1e2, 1e4, 1e6)
    ]
    assert error[2] < 1e-5 and error[1] < 0.02 * error[0] and error[2] < 0.02 * error[1]


def test_linear_pessimism_has_no_floor_and_smooth_pessimism_has():
    data = offline.from_pairs([(0, 0, 1, 6), (0, 1, 0, 4)], 1, 3)  # the third response is not in the data
    rows = enumerate_data(data.share, uniform(3).probs())
    anchors = {"previous": uniform(3).log_probs()}

    def at(mode: str, drop: float) -> float:
        logits = torch.tensor([[0.0, 0.0, -drop]], dtype=DOUBLE)
        return float(
            loss(Spac(b=1.0, w_pess=1.0, mode=mode, clip=INF), logits.log_softmax(dim=1), anchors, rows)
        )

    fall = [at("linear", drop) for drop in (10.0, 100.0, 1000.0)]
    assert fall[1] < fall[0] - 25 and fall[2] < fall[1] - 250
    assert all(at("smooth", drop) > 0 for drop in (10.0, 100.0, 1000.0))
    with pytest.raises(NotConverged):
        unbounded = Spac(b=1.0, w_pess=1.0, mode="linear", clip=INF)
        minimise(unbounded, *rows, start=torch.zeros(1, 3, dtype=DOUBLE), anchors=anchors, steps=50)


@pytest.mark.parametrize("n", [30, 300])
def test_never_worse_than_the_data_beyond_statistical_error(n):
    """rel(pi; r*) >= -lam (L(r*) - min L) for every lam, up to the actor's regret, which the run bounds."""
    game, bound, eta, rounds = zoo.lucky(), 2.0, 0.05, 600
    reward = torch.logit(game.preference[:, :, 0])
    behaviour = TabularPolicy.from_probs([0.45, 0.45, 0.1])
    sets = [offline.sample_pairs(game, behaviour, n, seed) for seed in range(20)]
    data = offline.stack(sets)
    mu = TabularPolicy.from_probs(data.mu)
    start = TabularPolicy(torch.zeros(20, 3, dtype=DOUBLE))
    for lam in (0.3, 1.0, 5.0, 30.0):
        mixed = spac_t(data, start, lam=lam, bound=bound, eta=eta, rounds=rounds).mixture()
        truth = reward.expand(20, 3)
        relative = ((mixed.probs() - data.mu) * truth).sum(dim=1)
        best = critic(data, mu, lam=1.0, bound=bound)
        excess = critic_value(data, mu, truth, lam=1.0) - critic_value(data, mu, best, lam=1.0)
        regret = np.log(3) / (eta * rounds) + eta * bound**2 / 2
        assert bool((excess >= -1e-12).all())
        assert bool((relative >= -lam * excess - regret).all())


def test_prefix_mixtures_and_step_size():
    data = some_pairs(3, 2)
    run = spac_t(data, uniform(3), lam=1.0, bound=1.0, eta=0.1, rounds=50)
    short = spac_t(data, uniform(3), lam=1.0, bound=1.0, eta=0.1, rounds=10)
    assert run.history.shape == (51, 1, 3)
    assert torch.allclose(run.mixture(10).probs(), short.mixture().probs())
    assert run.mixture(1).probs()[0].tolist() == pytest.approx([1 / 3] * 3)
    eta = actor_step(np.log(3), 50, 2.0)
    bounds = [np.log(3) / e + e * 50 * 2.0**2 / 2 for e in (0.9 * eta, eta, 1.1 * eta)]
    assert bounds[1] < bounds[0] and bounds[1] < bounds[2]
