"""DRAGON's greedy split: it never lowers a set's reward, and is the per-pair choice for sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from equipoise.play.pairings.greedy_split import GreedySplit
from equipoise.play.rows import Rows
from equipoise.play.state import State

PAIRS = 40


@dataclass
class Sets:
    """A world of numbers: a response is one, and a set has a reward."""

    reward: object
    asked: int = 0

    def set_reward(self, rows):
        def of(columns):
            self.asked += 1
            return self.reward(rows.responses[np.arange(len(rows)), columns])

        return of if self.reward else None

    def compare(self, rows, first, second):
        every = np.arange(len(rows))
        return (rows.responses[every, first] > rows.responses[every, second]).astype(float)

    def uniforms(self, state, name, count):
        return np.random.default_rng(state.round).random(count)


def rows(seed: int = 0) -> Rows:
    drawn = np.random.default_rng(seed).normal(size=(PAIRS, 2))
    none = np.zeros(PAIRS, dtype=np.int64)
    return Rows(prompts=none, responses=drawn, weight=np.ones(PAIRS), writers=("start", "start"))


def split(reward, *, paired: bool = True, round: int = 1):
    world = Sets(reward)
    return GreedySplit(paired=paired).form(world, State(round=round, policies={}), rows()), world


def test_for_a_sum_it_is_the_better_one_of_each_pair():
    formed, _ = split(np.sum)
    assert np.array_equal(formed.responses[:, 0], rows().responses.max(axis=1))
    assert (formed.prob == 1).all()


@pytest.mark.parametrize("round", range(1, 6))
def test_a_sweep_never_lowers_the_reward_of_the_preferred_set(round):
    def diversity(values):
        return float(np.var(values))

    formed, world = split(diversity, round=round)
    assert diversity(formed.responses[:, 0]) > diversity(rows().responses[:, 0])
    assert world.asked == PAIRS + 1
    assert np.array_equal(np.sort(formed.responses, axis=1), np.sort(rows().responses, axis=1))


def test_an_oracle_of_single_responses_decides_each_pair():
    formed, _ = split(None)
    assert np.array_equal(formed.responses[:, 0], rows().responses.max(axis=1))


def test_a_set_reward_may_choose_against_the_single_ones():
    """Near a target mean: the larger of a pair is not always the one for the set."""
    formed, _ = split(lambda values: -abs(values.mean()))
    assert abs(formed.responses[:, 0].mean()) < abs(rows().responses[:, 0].mean())
    assert not np.array_equal(formed.responses[:, 0], rows().responses.max(axis=1))


def test_a_reward_that_knows_nothing_leaves_the_pairs_as_they_are():
    formed, _ = split(lambda values: 1.0)
    assert np.array_equal(formed.responses, rows().responses)


def test_unpaired_it_labels_single_responses():
    formed, _ = split(np.sum, paired=False)
    assert formed.responses.shape == (2 * PAIRS, 1) and formed.prob is None
    assert np.array_equal(formed.rewards[:, 0], np.repeat([1.0, 0.0], PAIRS))
    assert np.array_equal(formed.responses[:PAIRS, 0], rows().responses.max(axis=1))


def test_other_widths_are_refused():
    with pytest.raises(ValueError, match="two responses"):
        GreedySplit().check(3)
