"""Pairs that the policy labels itself: who is best, how far two policies agree, and what becomes of the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Cdpo, Dpo, Spa
from equipoise.games import zoo
from equipoise.methods.own_labels import CREAM, SPA
from equipoise.play.pairings.self_labelled import ImplicitRewardLabels, kendall
from equipoise.play.players.recorded import RecordedThenSampled
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import BEFORE, INITIAL, START, State
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld

STATE = State(round=2, policies={INITIAL: "first", BEFORE: "older", START: "own"})
FRESH = State(round=2, policies={INITIAL: "first", BEFORE: "first", START: "own"})


class Written:
    """Log-probs by hand, [N, K] for each policy, and lengths."""

    def __init__(self, length=None, **logps):
        self.logps = {name: np.array(values, dtype=float) for name, values in logps.items()}
        self.length = np.ones_like(self.logps["own"]) if length is None else np.array(length, float)

    def scores(self, state, rows, policy):
        return self.logps[state.policies[policy]], self.length


def rows(responses, weight=None):
    array = np.array(responses)
    weight = np.ones(len(array)) if weight is None else np.array(weight, float)
    return Rows(
        prompts=np.arange(len(array)), responses=array, weight=weight, writers=("start",) * array.shape[1]
    )


def test_the_largest_implicit_reward_is_chosen_and_the_smallest_rejected():
    # rewards 1, -1, 0 and 0, 2, -1: neither is the order of the likelihoods
    world = Written(own=[[-3, -2, -1], [-5, -1, -2]], first=[[-4, -1, -1], [-5, -3, -1]])
    pairs = ImplicitRewardLabels().form(world, STATE, rows([[10, 11, 12], [20, 21, 22]]))
    assert pairs.responses.tolist() == [[10, 11], [21, 22]] and pairs.prob.tolist() == [1.0, 1.0]
    world.logps["own"] += np.array([[7.0], [-3.0]])  # c(x)
    again = ImplicitRewardLabels().form(world, STATE, rows([[10, 11, 12], [20, 21, 22]]))
    assert again.responses.tolist() == pairs.responses.tolist()


def test_equal_rewards_and_equal_responses_give_no_pair():
    world = Written(own=[[-3, -2], [-1, -2]], first=[[-4, -3], [-2, -2]])
    assert len(ImplicitRewardLabels().form(world, STATE, rows([[1, 2], [3, 3]]))) == 0


def test_round_one_is_the_recorded_seed():
    data = rows([[1, 2]])
    assert ImplicitRewardLabels().form(None, State.begin("initial"), data) is data


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([3, 2, 1], [30, 2, 1], 1),
        ([3, 2, 1], [1, 2, 3], -1),
        ([3, 2, 1], [2, 3, 1], 1 / 3),
        ([2, 1], [1, 2], -1),
    ],
)
def test_kendalls_tau_by_hand(first, second, tau):
    assert kendall(np.array([first]), np.array([second])) == pytest.approx([tau])


def test_the_label_is_the_mean_consistency_of_two_rankings():
    world = Written(
        own=[[-1, -2, -3], [-1, -2, -3]],
        first=[[-5, -5, -5], [-5, -5, -5]],
        older=[[-1, -2, -3], [-2, -1, -3]],
    )
    pairs = ImplicitRewardLabels(consistency=True).form(
        world, STATE, rows([[1, 2, 3], [4, 5, 6]], weight=[1, 3])
    )
    # C = 1 and (1/3 + 1)/2 = 2/3, weighted 1 : 3
    assert pairs.prob == pytest.approx([(1 + 3 * 2 / 3) / 4] * 2)
    assert pairs.responses.tolist() == [[1, 3], [4, 6]]


def test_while_the_policy_before_has_no_rewards_its_mean_log_probs_rank():
    # sums rank the second response higher, means the first: with the means both rankings agree
    world = Written(own=[[-3, -4]], first=[[-6, -4]], length=[[6, 2]])
    assert ImplicitRewardLabels(consistency=True).form(world, FRESH, rows([[1, 2]])).prob.tolist() == [1.0]
    world.length = np.ones((1, 2))
    assert ImplicitRewardLabels(consistency=True).form(world, FRESH, rows([[1, 2]])).prob.tolist() == [0.0]


def scores(margins, prob=None):
    logp = torch.stack([margins, torch.zeros_like(margins)], dim=1) / 0.1
    label = None if prob is None else torch.full_like(margins, prob)
    return Scores(logp=logp, anchors={"reference": torch.zeros_like(logp)}, prob=label)


MARGINS = torch.linspace(-3, 3, 13, dtype=torch.float64)


def test_spa_is_dpo_above_its_threshold_and_conservative_below():
    found = Spa(threshold=0.6)(scores(MARGINS))
    clear = MARGINS > 0.6
    assert torch.equal(found.value[clear], Dpo(beta=0.1)(scores(MARGINS)).value[clear])
    assert torch.allclose(found.value[~clear], Cdpo(beta=0.1, smoothing=0.1)(scores(MARGINS)).value[~clear])
    assert found.metrics["doubtful"].tolist() == (~clear).double().tolist()


@pytest.mark.parametrize("c", [0.0, 0.5, 0.8, 1.0])
def test_creams_loss_is_conservative_dpo_with_what_is_inconsistent(c):
    found = reduce.expected(CREAM.objective, scores(MARGINS, c)).value
    dpo = Dpo(beta=0.1)
    want = c * dpo(scores(MARGINS)).value + (1 - c) * dpo(scores(-MARGINS)).value
    assert torch.allclose(found, want, rtol=1e-12)
    if c >= 0.5:
        assert torch.allclose(found, Cdpo(beta=0.1, smoothing=1 - c)(scores(MARGINS)).value, rtol=1e-12)


def test_on_an_exact_game_the_policy_sharpens_what_the_seed_taught():
    game = zoo.parse("transitive")
    gaps = play_game(game, SPA.with_parameters({"beta": 0.5}), rounds=2)["gap0"]
    assert gaps[1] < 0.1 * gaps[0] and gaps[2] <= gaps[1]


def test_a_round_of_own_labels_asks_nobody(monkeypatch):
    game = zoo.parse("brps")
    world, state = TableWorld(game), State.begin(game.initial())
    method = CREAM.with_parameters({"beta": 0.5})
    state = play_round(method, world, state)
    monkeypatch.setattr(TableWorld, "compare", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(TableWorld, "win_rates", lambda *_: pytest.fail("asked"))
    assert play_round(method, world, state).round == 3


def test_seeded_players_write_from_round_two():
    assert (
        RecordedThenSampled().writing(4).samples == 4
        and "recorded pairs in round 1" in RecordedThenSampled().describe()
    )
