"""Nash policies, gaps and their properties, against printed values and against each other."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from equipoise.games import (
    NotConverged,
    PreferenceGame,
    TabularPolicy,
    best_response,
    gap0,
    gap_tau,
    kl,
    kl_to,
    load_game,
    nash,
    regularised_nash,
    win_rate,
    zoo,
)

REGULARISED = {
    ("rps", 0.05): (0.366630, 0.268643, 0.364726),
    ("rps", 0.1): (0.417154, 0.211330, 0.371515),
    ("rps", 0.2): (0.535771, 0.141439, 0.322790),
    ("rps", 0.5): (0.690341, 0.125919, 0.183739),
    ("rps", 1.0): (0.714498, 0.151406, 0.134097),
    ("brps", 0.05): (0.446204, 0.115053, 0.438743),
    ("brps", 0.1): (0.591387, 0.066980, 0.341633),
    ("brps", 0.2): (0.724612, 0.070460, 0.204927),
    ("brps", 0.5): (0.750141, 0.121364, 0.128496),
    ("brps", 1.0): (0.733447, 0.155267, 0.111286),
}


@pytest.mark.parametrize(("name", "tau"), REGULARISED)
def test_regularised_nash_table(name, tau):
    found = regularised_nash(zoo.make(name), tau).probs()[0].tolist()
    assert found == pytest.approx(REGULARISED[name, tau], abs=6e-7)


def test_quoted_gaps():
    rps, brps = zoo.rps(), zoo.brps()
    uniform = TabularPolicy.from_probs([1 / 3] * 3)
    assert gap0(rps, rps.initial()).item() == pytest.approx(0.5, abs=1e-12)
    assert gap0(brps, brps.initial()).item() == pytest.approx(0.16, abs=1e-12)
    assert gap0(brps, uniform).item() == pytest.approx(0.13333, abs=5e-6)
    assert gap0(rps, regularised_nash(rps, 0.1)).item() == pytest.approx(0.205824, abs=6e-7)
    assert gap0(brps, regularised_nash(brps, 0.1)).item() == pytest.approx(0.196366, abs=6e-7)


@pytest.mark.parametrize("tau", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("seed", range(5))
def test_regularised_nash_of_random_games_is_its_own_best_response(tau, seed):
    game = zoo.random(10, seed)
    policy = regularised_nash(game, tau)
    reply = best_response(game, policy, tau)
    assert (policy.probs() - reply.probs()).abs().max() < 1e-13
    assert gap_tau(game, policy, tau).abs().max() < 1e-13


def test_small_tau_approaches_the_plain_nash_policy():
    game = zoo.random(7, 3)
    distance = [float(gap0(game, regularised_nash(game, tau))) for tau in (0.1, 0.01, 0.001, 0.0001)]
    assert all(b < 0.3 * a for a, b in itertools.pairwise(distance))


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="tau must be"):
        regularised_nash(zoo.rps(), 0.0)
    with pytest.raises(ValueError, match="tau must be"):
        gap_tau(zoo.rps(), zoo.rps().initial(), -1.0)


def test_a_tolerance_out_of_reach_is_reported():
    with pytest.raises(NotConverged, match=r"tau = 0\.01") as caught:
        regularised_nash(zoo.random(10, 0), 0.01, tolerance=0.0)
    assert 0 < caught.value.residual < 1e-13


def test_gap_tau_is_the_gap_of_a_search_over_both_players():
    game, tau = zoo.brps(), 0.2
    policy = TabularPolicy.from_probs([0.3, 0.45, 0.25])
    reference = game.initial()

    def advantage(logits: np.ndarray) -> float:
        other = TabularPolicy(torch.as_tensor(logits).unsqueeze(0))
        penalty = tau * (kl(policy, reference) - kl(other, reference))
        return -float(game.value(other, policy) + penalty)

    best = -minimize(advantage, np.zeros(3), tol=1e-12).fun
    assert gap_tau(game, policy, tau).item() == pytest.approx(2 * best - 1, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(2, 6), seed=st.integers(0, 10_000), tau=st.sampled_from([1.0, 0.1, 0.01]))
def test_gaps_are_positive_and_vanish_at_equilibrium(size, seed, tau):
    game = zoo.random(size, seed)
    policy = TabularPolicy(torch.as_tensor(np.random.default_rng(seed).normal(size=(1, size))))
    assert gap0(game, policy).item() > 0 and gap_tau(game, policy, tau).item() > 0
    assert abs(gap0(game, nash(game)).item()) < 1e-12
    assert abs(gap_tau(game, regularised_nash(game, tau), tau).item()) < 1e-12


@settings(deadline=None, max_examples=20)
@given(size=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_relabelling_responses_permutes_everything(size, seed):
    game = zoo.random(size, seed)
    order = torch.from_numpy(np.random.default_rng(seed + 1).permutation(size))
    turned = PreferenceGame(game.preference[:, order][:, :, order], game.reference[:, order])
    policy = TabularPolicy(torch.as_tensor(np.random.default_rng(seed).normal(size=(1, size))))
    moved = TabularPolicy(policy.logits[:, order])
    assert torch.allclose(nash(turned).probs(), nash(game).probs()[:, order], atol=1e-9)
    assert torch.allclose(
        regularised_nash(turned, 0.1).probs(), regularised_nash(game, 0.1).probs()[:, order], atol=1e-12
    )
    assert torch.allclose(turned.win(moved), game.win(policy)[:, order], atol=1e-14)
    assert torch.allclose(gap0(turned, moved), gap0(game, policy), atol=1e-14)


def test_divergence_with_zeros():
    sure, even = TabularPolicy.from_probs([1.0, 0.0]), TabularPolicy.from_probs([0.5, 0.5])
    assert kl(sure, even).item() == pytest.approx(np.log(2))
    assert kl(even, sure).item() == float("inf")
    assert kl_to(even, sure).item() == pytest.approx(np.log(2))
    assert kl(sure, sure).item() == 0


def test_the_best_response_beats_every_response():
    game = zoo.random(6, 2)
    policy = game.initial()
    rate = win_rate(game, best_response(game, policy), policy)
    assert torch.equal(rate, game.win(policy).max(dim=1).values)


REAL = ["rrps_bots", "mujoco_soccer", "pokemon_types", "epl_seasons"]


@pytest.mark.parametrize("name", REAL)
def test_real_games(shared_data, name):
    folder = shared_data / "games"
    game = load_game(folder / f"{name}.npz")
    facts = json.loads((folder / "reference.json").read_text())[name]
    with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
        titles = [str(season) for season in archive["seasons"]] if name == "epl_seasons" else [""]
        names = archive["teams"] if name == "epl_seasons" else archive["names"][None]
    policy = nash(game)
    assert gap0(game, policy).abs().max() < 1e-12
    beats = (game.preference > 0.5).double()
    for x, title in enumerate(titles):
        expected = facts[title] if title else facts
        # three_cycles counts each strict cycle once; the trace of the cube counts its three starting points
        assert torch.linalg.matrix_power(beats[x], 3).trace().item() / 3 == expected["three_cycles"]
        assert expected["n"] == game.actions
        known = torch.tensor([[expected["nash"].get(str(n), 0.0) for n in names[x]]], dtype=torch.float64)
        one = PreferenceGame(game.preference[x])
        assert gap0(one, TabularPolicy.from_probs(known / known.sum())).item() < 2e-6
        if expected["nash_coordinate_range"] == 0:
            assert (policy.probs()[x] - known[0]).abs().max() < 1e-6
