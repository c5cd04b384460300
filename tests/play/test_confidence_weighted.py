"""UPO: what passes disagree on, and which pairs are believed how far."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.games import zoo
from equipoise.methods.upo import UPO
from equipoise.oracles.learned.feature_reward import Fitting
from equipoise.play.pairings.confidence_weighted import ConfidenceWeighted, disagreement
from equipoise.play.round import play
from equipoise.play.rows import Rows
from equipoise.play.state import START, State
from equipoise.worlds.table.world import TableWorld

QUICK = Fitting(steps=40, batch=32, width=8)


def wide(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_passes_that_agree_disagree_on_nothing_and_certain_opposites_on_all():
    passes = wide([0.9, 0.3, 1.0, 1.0], [0.9, 0.3, 1.0, 0.0])
    assert disagreement(passes).tolist() == pytest.approx([0, 0, 0, math.log(2)], abs=1e-15)
    # by hand: mean 1/2, each pass as sure as 3 to 1
    sure = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert disagreement(wide([0.75], [0.25])).item() == pytest.approx(math.log(2) - sure)


def test_it_is_never_negative_and_the_same_for_both_orders():
    draw = torch.Generator().manual_seed(0)
    passes = torch.rand(10, 200, generator=draw, dtype=torch.float64)
    found = disagreement(passes)
    assert bool((found > 0).all()) and bool((found < math.log(2)).all())
    assert torch.allclose(found, disagreement(1 - passes), rtol=1e-9, atol=1e-14)


def four(world: TableWorld) -> Rows:
    """Rows of four responses to one prompt, worst and best in turn."""
    return Rows(
        prompts=np.zeros(2, int),
        responses=np.array([[3, 0, 2, 1], [1, 1, 3, 3]]),
        weight=np.array([1.0, 2.0]),
        writers=("start",) * 4,
    )


def test_the_better_half_meets_the_worse_half():
    game = zoo.transitive(4)
    world, state = TableWorld(game), State.begin(game.initial())
    made = ConfidenceWeighted(fitting=QUICK).form(world, state, four(world))
    best = game.preference[0].mean(dim=1).argsort(descending=True).tolist()
    rank = {response: place for place, response in enumerate(best)}
    first = made.responses[made.weight <= 1]
    assert sorted(map(tuple, first.tolist())) == sorted((a, b) for a in best[:2] for b in best[2:])
    assert all(rank[a] < rank[b] for a, b in made.responses.tolist()) and len(made) == 8
    assert bool((made.prob > 0.5).all()) and bool((made.prob < 1).all())
    certain = ConfidenceWeighted(dropout=0.0, fitting=QUICK).form(world, state, four(world))
    assert certain.prob.tolist() == [1.0] * 8 and set(certain.weight.tolist()) == {1.0, 2.0}
    # label and weight are of one belief, and a larger mu believes less
    assert np.allclose(made.weight / certain.weight, 2 * made.prob - 1)
    doubting = ConfidenceWeighted(mu=3.0, fitting=QUICK).form(world, state, four(world))
    assert np.allclose(2 * doubting.prob - 1, (2 * made.prob - 1) ** 3)


def test_the_estimator_is_learned_once_and_a_game_is_played_with_it():
    game = zoo.transitive(3)
    method = replace(UPO.with_parameters(UPO.exact), rounds=2)
    method = replace(method.on_exact_games(2), pairing=ConfidenceWeighted(fitting=QUICK))
    world = TableWorld(game)
    state = play(method, world, State.begin(game.initial()))
    assert set(world.made) == {"estimator"}
    policy = state.policies[START].probs()[0]
    assert int(policy.argmax()) == int(game.preference[0].mean(dim=1).argmax()) and policy.max() > 0.5


@pytest.mark.parametrize("wrong", [{"mu": 0.0}, {"passes": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ConfidenceWeighted(**wrong)


def test_halves_need_an_even_number():
    with pytest.raises(ValueError, match="even number"):
        ConfidenceWeighted().check(3)


class Voting:
    """A world whose oracle votes; it compares by the responses' numbers."""

    def __init__(self, votes: np.ndarray) -> None:
        self.of, self.asked = votes, []

    def votes(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        self.asked.append(
            (rows.responses[np.arange(len(rows)), first], rows.responses[np.arange(len(rows)), second])
        )
        return self.of[:, : len(rows)]

    def win_rates(self, state, rows, against, opponents, of, decode) -> np.ndarray:
        return rows.responses.astype(float)


def test_the_oracles_own_votes_may_be_the_estimator():
    pairing = ConfidenceWeighted(estimator="oracle")
    assert str(pairing.needs) == "an oracle that votes" and pairing.needs.records is None
    votes = np.array([[0.75, 0.9, 1.0, 0.5], [0.25, 0.9, 0.0, 0.5]])
    world = Voting(votes)
    rows = Rows(
        prompts=np.zeros(1, int),
        responses=np.array([[3, 0, 2, 1]]),
        weight=np.array([2.0]),
        writers=("start",) * 4,
    )
    made = pairing.form(world, State.begin(None), rows)
    better, worse = world.asked[0]
    assert sorted(zip(better, worse, strict=True)) == [(2, 0), (2, 1), (3, 0), (3, 1)]
    sure = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)  # by hand, for 3 to 1 and 1 to 3
    assert made.weight.tolist() == pytest.approx([2 * sure, 2.0, 0.0, 2.0])
    assert made.prob.tolist() == pytest.approx([(1 + sure) / 2, 1.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="the estimator is 'learned' or the 'oracle'"):
        ConfidenceWeighted(estimator="guess")
