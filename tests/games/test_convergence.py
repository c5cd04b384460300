"""Where the methods for the regularised game go, and how fast: played on exact games against printed values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from equipoise.games import PreferenceGame, TabularPolicy, gap_tau, kl_to, regularised_nash, zoo
from equipoise.games import closed_form as step
from equipoise.methods.index import get
from equipoise.worlds.table.play_game import play_game

TAU = 0.1
# both cycles as two prompts of one game: prompt 0 is rps, prompt 1 is brps
BOTH = PreferenceGame(torch.cat([zoo.rps().preference, zoo.brps().preference]), zoo.SKEWED)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Thousands of products of tiny matrices: a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def played(name, rounds, game=BOTH, *, exact=None, target=TAU, **parameters):
    """(last policy [X, A], last distances by prompt) of one run."""
    run = play_game(game, get(name).with_parameters(parameters), rounds=rounds, exact=exact, tau=target)
    return torch.tensor(run["policy"], dtype=torch.float64), run["by_prompt"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("inpo", {"eta": 0.5, "tau": TAU}),
        ("nash_md", {"eta": 0.5, "tau": TAU}),
        ("egpo", {"eta": 0.5, "beta": TAU}),
        ("omd", {"eta": 0.5, "beta": TAU}),
        ("onpo", {"eta": 0.5}),
        ("dno", {"eta": 0.5}),
    ],
)
def test_the_objective_plays_the_closed_form(name, parameters):
    """Four rounds of fits (of gradients for egpo and omd) against four rounds of the formula."""
    formula, fitted = (played(name, 4, exact=exact, **parameters)[0] for exact in (True, False))
    assert (formula - BOTH.reference).abs().max() > 0.02
    assert (formula - fitted).abs().max() < 1e-9


# --- INPO, EGPO, OMD: exactly to the regularised Nash policy


@pytest.mark.parametrize(
    ("name", "parameters", "rounds"),
    [
        ("inpo", {"eta": 1.0, "tau": TAU}, 400),
        ("egpo", {"eta": 0.5, "beta": TAU}, 400),
        ("egpo", {"eta": 2.0, "beta": TAU}, 80),
        ("omd", {"eta": 1.0, "beta": TAU}, 400),
        ("online_ipo", {"tau": TAU, "rate": 0.03}, 250),
        ("nash_ema_pg", {"tau": TAU, "decay": 0.5, "rate": 0.5}, 500),
    ],
)
def test_the_last_iterate_is_the_regularised_nash_policy(name, parameters, rounds):
    policy, found = played(name, rounds, **parameters)
    assert max(map(abs, found["kl_to_nash"])) < 1e-10
    assert (policy - regularised_nash(BOTH, TAU).probs()).abs().max() < 1e-5
    assert min(found["gap0"]) > 0.19  # and exploitable in the plain game


def contraction(move, target: TabularPolicy, rounds: int) -> list[float]:
    """Largest KL(target || pi_{t+1})/KL(target || pi_t) of each prompt, from the reference, above rounding."""
    policy = BOTH.initial()
    left, worst = kl_to(policy, target), torch.zeros(BOTH.prompts, dtype=torch.float64)
    for _ in range(rounds):
        policy = move(policy)
        reached = kl_to(policy, target)
        worst = torch.where(left > 1e-10, torch.maximum(worst, reached / left), worst)
        left = reached
    return worst.tolist()


@pytest.mark.parametrize("beta", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("eta", [0.1, 0.5, 1.0, 2.0])
def test_egpo_contracts_in_every_step(beta, eta):
    """KL(pi*, pi_{t+1}) <= (1 - eta beta) KL(pi*, pi_t)."""
    star = regularised_nash(BOTH, beta)
    worst = contraction(lambda p: step.egpo_step(BOTH, p, eta=eta, beta=beta)[1], star, 150)
    assert 0 < max(worst) <= 1 - eta * beta
    if (beta, eta) == (0.1, 0.5):
        assert worst == pytest.approx([0.9016, 0.9086], abs=6e-5)


def test_mmd_contracts_in_every_step_where_its_step_is_safe():
    """KL(pi*_alpha, pi_{t+1}) <= KL(pi*_alpha, pi_t)/(1 + eta alpha) for eta <= alpha/max P^2; magnet = reference."""
    alpha, largest = 0.1, BOTH.preference.amax(dim=(1, 2))
    assert largest.tolist() == [1.0, 0.9]
    for prompt, expected in enumerate([0.9830, 0.9784]):
        eta = alpha / float(largest[prompt]) ** 2
        star, ref = regularised_nash(BOTH, alpha), BOTH.initial()
        worst = contraction(lambda p, e=eta, r=ref: step.mmd_step(BOTH, p, r, eta=e, alpha=alpha), star, 600)
        assert worst[prompt] == pytest.approx(expected, abs=6e-5)
        assert worst[prompt] <= 1 / (1 + eta * alpha)


def ten_random_games() -> PreferenceGame:
    games = [zoo.random(10, seed) for seed in range(10)]
    return PreferenceGame(torch.cat([g.preference for g in games]), torch.cat([g.reference for g in games]))


@pytest.mark.slow
def test_extragradient_solves_random_games_where_one_gradient_cycles():
    """Ten responses, beta = tau = 0.01, eta = 0.8: the published setting, half of its rounds.

    Nash-MD is exact nowhere: it stops at a floor, or cycles where mirror descent cycles.
    """
    games = ten_random_games()
    gaps = {
        name: played(name, 2500, games, target=0.01, eta=0.8, **{kl: 0.01})[1]["gap_tau"]
        for name, kl in (("egpo", "beta"), ("omd", "beta"), ("nash_md", "tau"))
    }
    assert max(gaps["egpo"]) < 1e-12
    assert sum(gap > 1e-3 for gap in gaps["omd"]) == 3
    assert max(gaps["omd"]) > 0.1
    assert min(gaps["nash_md"]) > 1e-7
    assert [gap > 1e-3 for gap in gaps["nash_md"]] == [gap > 1e-3 for gap in gaps["omd"]]


# --- Nash-MD and its relatives: biased, or exact with a falling step


@pytest.mark.parametrize(("eta", "floor"), [(0.1, 3.0e-5), (0.5, 8.2e-4), (1.0, 3.6e-3)])
def test_nash_md_with_a_constant_step_stops_at_a_floor(eta, floor):
    """Its limit is the best response to its own mixture, which is pi*_{tau/(1 - eta tau)}."""
    policy, found = played("nash_md", 3000 if eta == 0.1 else 300, eta=eta, tau=TAU)
    assert found["kl_to_nash"][0] == pytest.approx(floor, rel=0.02)
    limit = TabularPolicy.from_probs(policy)
    mix = limit.geometric(BOTH.initial(), eta * TAU)
    assert torch.allclose(mix.probs(), regularised_nash(BOTH, TAU / (1 - eta * TAU)).probs(), atol=1e-6)
    assert torch.allclose(policy, step.best_response(BOTH, mix, TAU).probs(), atol=1e-6)


@pytest.mark.slow
def test_nash_md_with_falling_steps_is_exact_within_its_theorem():
    """eta_t = 2/(tau (t + 2)): KL_{t+1} <= (1 - eta_t tau) KL_t + 2 eta_t^2 in every step, hence 8/(tau^2 (t + 2))."""
    game = zoo.rps()
    star, policy = regularised_nash(game, TAU), game.initial()
    left = kl_to(policy, star)
    for t in range(20_000):
        eta = 2 / (TAU * (t + 2))
        policy = step.nash_md_step(game, policy, eta=eta, tau=TAU)
        if t < 1000:
            reached = kl_to(policy, star)
            assert reached <= (1 - eta * TAU) * left + 2 * eta**2
            assert reached <= 8 / (TAU**2 * (t + 2))
            left = reached
    assert float(left) == pytest.approx(1.2e-6, rel=0.02)
    assert float(kl_to(policy, star)) == pytest.approx(3.3e-9, rel=0.01)


PG_FIXED = (0.598539, 0.038482, 0.362979)  # the policy; its mixture is (0.659701, 0.061582, 0.278718)


@pytest.mark.parametrize(("name", "rate", "rounds"), [("nash_md_pg", 2.0, 400), ("ipo_md", 0.05, 250)])
def test_nash_md_pg_and_ipo_md_share_a_biased_fixed_point(name, rate, rounds):
    """pi ~ ref exp(P(y > mix)/tau), whose mixture is pi*_{tau/(1 - b)}: not the regularised Nash policy."""
    game, b = zoo.brps(), 0.25
    policy, found = played(name, rounds, game, tau=TAU, mixture=b, rate=rate)
    assert policy[0].tolist() == pytest.approx(PG_FIXED, abs=1e-6)
    mix = TabularPolicy.from_probs(policy).geometric(game.initial(), b)
    assert mix.probs()[0].tolist() == pytest.approx((0.659701, 0.061582, 0.278718), abs=1e-6)
    assert torch.allclose(mix.probs(), regularised_nash(game, TAU / (1 - b)).probs(), atol=1e-6)
    assert found["kl_to_nash"][0] > 1e-3


def test_without_a_mixture_both_reach_the_regularised_nash_policy():
    for name, rate in (("nash_md_pg", 1.0), ("ipo_md", 0.03)):
        assert max(played(name, 250, tau=TAU, mixture=0.0, rate=rate)[1]["kl_to_nash"]) < 1e-8


def test_online_dpo_is_not_a_nash_solver():
    """Two responses, P = 0.8, beta = tau = 1: it fixes the odds 0.8/0.2, the game's equilibrium is another."""
    game = PreferenceGame([[0.5, 0.8], [0.2, 0.5]])
    policy, _ = played("online_dpo", 150, game, target=1.0, beta=1.0, rate=2.0)
    assert policy[0].tolist() == pytest.approx((0.8, 0.2), abs=1e-8)
    star = regularised_nash(game, 1.0)
    assert star.probs()[0].tolist() == pytest.approx((0.574443, 0.425557), abs=1e-6)
    assert gap_tau(game, TabularPolicy.from_probs(policy), 1.0) > 0.05


def test_an_opponent_that_lags_too_far_behind_keeps_the_game_cycling():
    """Nash-EMA-PG shares the fixed point, but on rps with tau = 0.1 a slow average (decay 0.9) never lets it settle."""
    found = played("nash_ema_pg", 500, tau=TAU, decay=0.9, rate=0.5)[1]["kl_to_nash"]
    assert found[0] > 0.1 and found[1] < 1e-6
