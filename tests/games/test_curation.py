"""The K-choice weight and the curated loop: properties of 2407.09499, and the played method beside the closed form."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from equipoise.games import PreferenceGame, TabularPolicy, zoo
from equipoise.games.curation import choice_weight, curated, divergence_bound, odds_of, self_consuming_step
from equipoise.games.offline import population
from equipoise.methods.index import get
from equipoise.play.players.recorded import Demonstrations
from equipoise.play.state import State
from equipoise.play.updates.demonstrations import mixture
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld


def drawn(seed: int, prompts: int = 3, actions: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    probs = torch.from_numpy(rng.normal(size=(prompts, actions))).softmax(dim=1)
    return probs, torch.from_numpy(2 * rng.normal(size=(prompts, actions)))


def test_the_weight_is_the_plain_expectation_over_all_samples():
    probs, reward = drawn(0, prompts=1, actions=3)
    p, r = probs[0].tolist(), reward[0].exp().tolist()
    plain = [
        sum(
            p[a] * p[b] * p[c] * 4 * r[y] / (r[y] + r[a] + r[b] + r[c])
            for a, b, c in product(range(3), repeat=3)
        )
        for y in range(3)
    ]
    assert choice_weight(probs, odds_of(reward), 4)[0].tolist() == pytest.approx(plain, abs=1e-13)


@pytest.mark.parametrize("choices", [2, 3, 6])
def test_weights_average_to_one_and_lie_between_0_and_k(choices: int):
    probs, reward = drawn(choices)
    weight = choice_weight(probs, odds_of(reward), choices)
    assert (probs * weight).sum(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-13)
    assert bool((weight > 0).all()) and bool((weight < choices).all())
    torch.testing.assert_close(choice_weight(probs, odds_of(reward + 3.0), choices), weight)


def test_no_choice_and_equal_rewards_change_nothing():
    probs, reward = drawn(1)
    ones = torch.ones_like(probs)
    torch.testing.assert_close(choice_weight(probs, odds_of(reward), 1), ones)
    torch.testing.assert_close(choice_weight(probs, odds_of(ones), 4), ones)


def test_many_choices_approach_the_exponential_tilt():
    """The limit p e^r/E e^r, at a rate of 1/K."""
    probs, reward = drawn(2, prompts=1, actions=2)
    limit = (probs.log() + reward).softmax(dim=1)
    errors = [
        float((curated(probs, odds_of(reward), k, real=probs, share=0) - limit).abs().max())
        for k in (20, 40, 80)
    ]
    assert errors[2] < 0.01 and errors[1] / errors[2] == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("seed", range(5))
def test_growth_is_at_least_what_the_variance_says_and_the_support_never_grows(seed: int):
    probs, reward = drawn(seed)
    probs[:, 0] = 0
    probs = probs / probs.sum(dim=1, keepdim=True)
    value = reward.exp()
    for _ in range(10):
        mean = (probs * value).sum(dim=1)
        spread = (probs * (value - mean[:, None]) ** 2).sum(dim=1)
        probs = curated(probs, odds_of(reward), 4, real=probs, share=0)
        least = mean + 3 / 4 * spread / value.amax(dim=1)
        assert bool(((probs * value).sum(dim=1) >= least - 1e-12).all())
        assert probs[:, 0].tolist() == [0.0] * 3


@pytest.mark.parametrize("seed", range(5))
def test_real_data_keeps_the_policy_near_it_and_the_bound_is_the_papers(seed: int):
    data, reward = drawn(seed)
    bound = divergence_bound(4, 0.8)
    assert bound == pytest.approx(-math.log(1 - 0.75))
    probs, ratio = data, 0.0
    for _ in range(50):
        probs = curated(probs, odds_of(reward), 4, real=data, share=0.8)
        ratio = max(ratio, float((probs / data).max()))
    assert 1 < ratio <= math.exp(bound)
    assert (
        float((curated(probs, odds_of(reward), 4, real=data, share=0.8) - probs).abs().max()) < 1e-8
    )  # stable
    assert divergence_bound(4, 0.75) == divergence_bound(2, 0.0) == math.inf
    assert divergence_bound(1, 0.0) == 0


def test_counts_and_shares_out_of_range_are_refused():
    probs, reward = drawn(0)
    with pytest.raises(ValueError, match="at least one sample"):
        choice_weight(probs, odds_of(reward), 0)
    with pytest.raises(ValueError, match="share of real data"):
        curated(probs, odds_of(reward), 2, real=probs, share=1.0)


@pytest.mark.parametrize("real", [0.0, 0.4])
@pytest.mark.parametrize("cyclic", [False, True])
def test_what_the_pairing_enumerates_is_the_closed_form(real: float, cyclic: bool):
    """Maximum likelihood is the weight of each response among the round's rows."""
    probs, reward = drawn(3, prompts=1, actions=3)
    of = zoo.rps() if cyclic else zoo.bradley_terry(reward)
    game = PreferenceGame(of.preference, probs)
    method = get("self_consuming").with_parameters({"real": real, "gamma": 2.0}).on_exact_games(1)
    world, state = TableWorld(game=game), State.begin(TabularPolicy(probs.log()))
    rows = method.pairing.form(world, state, method.players.write(world, state))
    if real:
        rows = mixture(rows, Demonstrations().write(world, state), real)
    found = np.bincount(rows.responses[:, 0], rows.weight, 3) / rows.weight.sum()
    step = self_consuming_step(game, TabularPolicy(probs.log()), choices=4, gamma=2.0, real=real)
    assert step.probs()[0].tolist() == pytest.approx(found.tolist(), abs=1e-12)


@pytest.mark.parametrize("real", [0.0, 0.4])
def test_played_rounds_are_the_formula_again_and_again(real: float):
    probs, reward = drawn(5, prompts=2)
    game = PreferenceGame(zoo.bradley_terry(reward).preference, probs)
    trace = play_game(game, get("self_consuming").with_parameters({"real": real}), rounds=3)
    preferred = population(game, game.initial()).winner
    expected = probs
    for _ in range(3):
        expected = curated(expected, odds_of(reward), 4, real=preferred, share=real)
    torch.testing.assert_close(torch.tensor(trace["policy"]).double(), expected)
