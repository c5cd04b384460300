"""The same round on a table: enumerated gradients reach the closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.games import closed_form, gaps, zoo
from equipoise.games.preference import PreferenceGame
from equipoise.methods.index import METHODS, get
from equipoise.play.round import play_round
from equipoise.play.state import START, State, Tilted
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld


def several_prompts():
    draw = torch.Generator().manual_seed(4)
    skew = torch.randn(3, 4, 4, generator=draw, dtype=torch.float64)
    reference = torch.rand(3, 4, generator=draw, dtype=torch.float64) + 0.1
    return PreferenceGame(
        torch.sigmoid(skew - skew.transpose(1, 2)),
        reference / reference.sum(1, keepdim=True),
        prompt_weight=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    )


GAMES = {
    "brps": lambda: zoo.parse("brps"),
    "random": lambda: zoo.parse("random:5"),
    "prompts": several_prompts,
}


@pytest.fixture(params=list(GAMES))
def game(request):
    return GAMES[request.param]()


def trained(game, method):
    world = TableWorld(game)
    state = State.begin(game.initial())
    for _ in range(3):
        state = play_round(method.on_exact_games(3), world, state)
    return state.policies[START].probs()


@pytest.mark.parametrize("name", ["inpo", "ipo", "spac"])
def test_minimised_objective_is_the_closed_form(game, name):
    method = get(name)
    # without a bound SPAC's critic needs a preference weight that outweighs how far the policy left the data
    method = method.with_parameters(dict(method.exact) | ({"w_pref": 20.0} if name == "spac" else {}))
    state = State.begin(game.initial())
    for _ in range(3):
        state = state.advance({START: method.closed_form(game, state, method)})
    assert torch.allclose(trained(game, method), state.policies[START].probs(), rtol=0, atol=1e-6)
    exact, gradient = (play_game(game, method, rounds=3, exact=e, tau=0.1) for e in (True, False))
    for key in ("gap0", "gap_tau"):
        assert exact[key] == pytest.approx(gradient[key], abs=1e-6)


def test_dpo_recovers_a_bradley_terry_reward():
    reward = torch.tensor([[0.0, 1.0, 2.5]], dtype=torch.float64)
    game = PreferenceGame(torch.sigmoid(reward[:, :, None] - reward[:, None, :]), [0.5, 0.3, 0.2])
    method = get("dpo").with_parameters({"beta": 0.7})
    expected = closed_form.dpo_optimum(game.initial(), reward, 0.7).probs()
    assert torch.allclose(trained(game, method), expected, rtol=0, atol=1e-6)


def test_closed_form_on_request_only_where_there_is_one(game):
    with pytest.raises(ValueError, match="dpo has no closed-form step; run it with --gradient"):
        play_game(game, get("dpo"), rounds=1, exact=True)


def test_the_policy_of_rejection_sampling_is_none_by_itself():
    game = zoo.brps()
    with pytest.raises(ValueError, match="depends on a row's first response"):
        TableWorld(game).who(State.begin(game.initial()), Tilted(beta=0.5))


def test_trace_is_thinned_and_ends_on_the_last_round():
    game, method = zoo.parse("brps"), get("inpo").with_parameters(get("inpo").exact)
    trace = play_game(game, method, rounds=2500, tau=0.1)
    assert trace["round"][0] == 0
    assert trace["round"][-1] == 2500
    assert len(trace["round"]) == len(trace["gap0"]) <= 1001
    assert trace["gap_tau"][-1] < 1e-9
    assert trace["kl_to_nash"][-1] < 1e-9
    assert math.isclose(sum(trace["average_policy"][0]), 1)


def test_every_method_starts_from_the_reference(game):
    for method in METHODS.values():
        if not (method.closed_form or all(issubclass(TableWorld, c) for c in method.capabilities)):
            continue  # refused: see tests/play/test_method.py
        trace = play_game(game, method.with_parameters(method.exact), rounds=0, tau=None)
        assert trace["round"] == [0]
        assert trace["gap_tau"] == [None]
        assert trace["gap0"] == pytest.approx([game.mean(gaps.gap0(game, game.initial()))])
