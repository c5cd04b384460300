"""Max-min rewards by hand: common scale, the worst group, multiplicative weights kept from round to round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from equipoise.methods.index import get
from equipoise.oracles.protocol import OracleError
from equipoise.play.pairings.max_min import MaxMin
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.playground import LanguageGame, pairs, reference_policy
from equipoise.worlds.table.world import TableWorld
from scores_world import NAMED, Scores, two_rows


def formed(world: Any, round: int, **options: float) -> Rows:
    return MaxMin(**options).form(world, State(round=round, policies={}), two_rows())


def test_rewards_are_gains_over_round_one_in_its_units() -> None:
    world = Scores(NAMED)
    formed(world, 1)
    world.named = {"a": np.array([[3.0, 3.0], [3.0, 3.0]]), "b": np.array([[30.0, 10.0], [20.0, 20.0]])}
    second = formed(world, 2)
    # a: mean 1, deviation 1: gains of 2; b: mean 20, deviation 10: its mean gain is 0, the lower one
    np.testing.assert_allclose(second.rewards, [[1.0, -1.0], [0.0, 0.0]])
    assert second.attributes["a"].tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_a_score_that_did_not_vary_in_round_one_counts_in_its_own_units() -> None:
    world = Scores({"a": np.full((2, 2), 0.1), "b": NAMED["b"]})
    formed(world, 1)
    world.named = {"a": np.full((2, 2), 0.4), "b": NAMED["b"] + 10.0}  # gains 0.3 and 1 on average
    np.testing.assert_allclose(formed(world, 2).rewards, np.full((2, 2), 0.3))


def test_weights_of_a_round_that_was_not_played_are_missing() -> None:
    with pytest.raises(ValueError, match="group-weights of round 1 are missing"):
        formed(Scores(NAMED), 2, eta=0.5)


def test_multiplicative_weights_by_hand() -> None:
    world = Scores(NAMED)
    first = formed(world, 1, eta=0.5)
    gains = np.stack([[[-1.0, 1.0], [1.0, -1.0]], [[-1.0, -1.0], [1.0, 1.0]]])
    np.testing.assert_allclose(first.rewards, gains.mean(axis=0))  # both gain 0: equal weights
    world.named = {"a": NAMED["a"] + 2.0, "b": NAMED["b"]}
    second = formed(world, 2, eta=0.5)
    share = 1 / (1 + np.exp(-0.5 * 2))  # of b, which gains 0 where a gains 2
    np.testing.assert_allclose(second.rewards, (1 - share) * (gains[0] + 2) + share * gains[1])
    formed(world, 3, eta=0.5)
    kept = world.made["group-weights-003"]["weights"]
    assert float(kept[1]) == pytest.approx(1 / (1 + np.exp(-2.0)))  # the weights of round 2 move on
    assert formed(world, 3, eta=0.5).rewards.tolist() == formed(world, 3, eta=0.5).rewards.tolist()


def test_a_negative_step_is_refused_and_a_table_has_no_named_scores() -> None:
    with pytest.raises(ValueError, match="eta must be >= 0"):
        MaxMin(eta=-1)
    with pytest.raises(ValueError, match="named scores of single responses"):
        get("maxmin").check_world(TableWorld)


def test_the_playgrounds_groups_agree_on_all_but_the_style() -> None:
    game = LanguageGame("groups")
    majority, minority = game.group_rewards[:, :, :-1]
    style = torch.tensor(
        [[s in text for s in ("black", "green", "mint")] for text in game.responses]
    ).double()
    gap = majority - minority
    torch.testing.assert_close(gap, (style @ torch.tensor([2.6, 0.0, -2.6]).double()).expand_as(gap))
    first = torch.sigmoid(majority[:, :, None] - majority[:, None])
    second = torch.sigmoid(minority[:, :, None] - minority[:, None])
    torch.testing.assert_close(game.preference, 0.75 * first + 0.25 * second)
    with pytest.raises(OracleError, match="two groups of users have no scalar score"):
        _ = game.reward
    oracle = game.oracle()
    scores = oracle.scores([game.prompts[3]] * 2, [game.responses[5], "no tea"])  # type: ignore[attr-defined]
    torch.testing.assert_close(scores[0], game.group_rewards[:, 3, 5])
    assert (scores[1] < game.group_rewards[:, 3, :-1].min(dim=1).values).all()


def test_recorded_pairs_of_the_groups_are_labelled_by_their_users() -> None:
    game = LanguageGame("groups")
    made = pairs(game, 3000, coverage="uniform", reference=reference_policy(), seed=1)
    black = {0: [0, 0], 1: [0, 0]}
    for row in made:
        sides = [row["chosen"], row["rejected"]]
        if sum("black" in s for s in sides) == 1 and sum("mint" in s for s in sides) == 1:
            counts = black[game.group_of(int(row["user_id"].removeprefix("guest-")))]
            counts["black" not in sides[0]] += 1
    assert black[0][0] > 3 * black[0][1] and black[1][1] > 3 * black[1][0]
    assert "user_id" not in pairs(LanguageGame(), 3, reference=reference_policy())[0]
