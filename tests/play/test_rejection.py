"""Rejection sampling: the algorithm by hand, its limits, its termination, and the law of what it accepts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from equipoise.games import PreferenceGame, zoo
from equipoise.methods.rso import RSO
from equipoise.play.players.rejection import Accepting, Rejected, accept
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, State
from equipoise.worlds.table.world import TableWorld

STATE = State.begin("initial")


def drawing(seed, shape):
    return lambda turn: np.random.default_rng([seed, turn]).random(shape)


def constant(u):
    return lambda turn: np.full((1, 4), u)


def test_a_pass_by_hand():
    # ratios exp(r - 2): e^-2 = 0.135, e^-1 = 0.368, 1, e^-0.5 = 0.607
    reward = np.array([[0.0, 1.0, 2.0, 1.5]])
    assert accept(reward, 4, 1.0, constant(0.5)).tolist() == [[2, 3, 1, 0]]
    # u = 0.3 takes 1, 2, 3 in their order and stops at the second
    assert accept(reward, 2, 1.0, constant(0.3)).tolist() == [[1, 2]]
    # after 2 and 3 the maximum left is 1.0: the ratio of candidate 0 is then e^-1 and no longer e^-2
    assert accept(reward, 4, 1.0, lambda turn: np.full((1, 4), 0.5 if turn == 0 else 0.3)).tolist() == [
        [2, 3, 0, 1]
    ]


def test_the_maximum_is_accepted_in_its_pass_whatever_is_drawn():
    almost_one = np.nextafter(1.0, 0.0)
    assert accept(np.array([[0.0, 1.0, 2.0, 1.5]]), 3, 1.0, constant(almost_one)).tolist() == [[2, 3, 1]]


@pytest.mark.parametrize("beta", [1e-300, 1e-3, 0.5, 1e3, 1e300])
@pytest.mark.parametrize("samples", [1, 3, 8])
def test_it_ends_after_as_many_passes_as_samples_at_most_with_different_candidates(beta, samples):
    reward = np.random.default_rng(0).normal(size=(200, 8)) * 50
    reward[::3] = 0.0  # all alike
    turns = []

    def draw(turn):
        turns.append(turn)
        return np.random.default_rng([1, turn]).random(reward.shape)

    chosen = accept(reward, samples, beta, draw)
    assert len(turns) <= samples
    assert all(len(set(row)) == samples for row in chosen.tolist())
    assert chosen.min() >= 0 and chosen.max() < 8


def test_a_cold_sampler_takes_the_best_and_a_hot_one_the_first():
    reward = np.random.default_rng(0).normal(size=(100, 16))
    cold, hot = (accept(reward, 4, beta, drawing(0, reward.shape)) for beta in (1e-12, 1e12))
    assert (cold == (-reward).argsort(axis=1)[:, :4]).all()
    assert (hot == np.arange(4)).all()


def test_more_samples_than_candidates_would_never_end_and_are_refused():
    with pytest.raises(ValueError, match="cannot accept 5 of 4 candidates"):
        accept(np.zeros((1, 4)), 5, 1.0, constant(0.0))
    with pytest.raises(ValueError, match="9 of 8 candidates"):
        Rejected(samples=9, candidates=8)
    with pytest.raises(ValueError, match="65 of 64 candidates"):
        RSO.players.writing(65)
    with pytest.raises(ValueError, match="beta must be positive"):
        Rejected(beta=0.0)


def test_the_acceptance_rate_of_a_pass_is_the_mean_ratio():
    n, beta = 40_000, 0.7
    reward = np.tile([0.0, 0.4, 1.0, 0.9, -0.5], (n, 1))
    uniform = drawing(3, reward.shape)
    in_first = []

    def draw(turn):
        drawn = uniform(turn)
        if turn == 0:
            in_first.append(drawn)
        return drawn

    chosen = accept(reward, 5, beta, draw)
    ratio = np.exp((reward[0] - 1.0) / beta)
    # how many of a prompt's candidates came in the first pass: they stand first, in their own order
    count = (in_first[0] < ratio).sum(axis=1)
    first = [sorted(row[:k]) == row[:k] for row, k in zip(chosen.tolist(), count, strict=True)]
    assert all(first)
    spread = math.sqrt((ratio * (1 - ratio)).sum() / n)
    assert abs(count.mean() / 5 - ratio.mean()) <= 4 * spread / 5


def test_what_is_accepted_first_has_the_law_of_the_tilted_policy():
    """One pass over i.i.d. candidates that hold the best response: each is accepted by itself."""
    n, width, beta = 20_000, 200, 0.5
    policy, score = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 0.5, 1.0, 1.2])
    draw = np.random.default_rng(0)
    arms = draw.choice(4, size=(n, width), p=policy)
    assert (arms == 3).any(axis=1).mean() > 0.9999
    chosen = accept(score[arms], 2, beta, drawing(1, arms.shape))
    law = policy * np.exp(score / beta) / (policy * np.exp(score / beta)).sum()
    taken = np.take_along_axis(arms, chosen, axis=1)
    for column in (0, 1):
        found = np.bincount(taken[:, column], minlength=4) / n
        assert (abs(found - law) <= 4.5 * np.sqrt(law * (1 - law) / n)).all(), column
    assert abs(np.corrcoef(taken.T)[0, 1]) < 4.5 / math.sqrt(n), "two accepted responses are independent"
    assert (abs(law - policy) > 0.02).all(), "another law than that of the candidates"


def test_as_many_samples_as_candidates_are_the_candidates_themselves():
    reward = np.random.default_rng(0).normal(size=(50, 6))
    assert (np.sort(accept(reward, 6, 0.5, drawing(0, reward.shape)), axis=1) == np.arange(6)).all()


class Sampled:
    """A finite game met by samples, as text is."""

    def __init__(self, game: PreferenceGame, prompts: int):
        self.game, self.count, self.asked = game, prompts, 0

    def prompts(self, state):
        none = np.empty((self.count, 0), dtype=int)
        return Rows(prompts=np.zeros(self.count, int), responses=none, weight=np.ones(self.count), writers=())

    def sample(self, state, rows, by, count):
        assert by == INITIAL
        probs = self.game.initial().probs()[0].numpy()
        drawn = np.random.default_rng(7).choice(len(probs), size=(len(rows), count), p=probs)
        return rows.append(drawn, by)

    def compare(self, rows, first, second):
        self.asked += 1
        every = np.arange(len(rows))
        return self.game.preference[0].numpy()[rows.responses[every, first], rows.responses[every, second]]

    def uniforms(self, state, name, count):
        return np.random.default_rng(list(name.encode())).random(count)


def test_many_candidates_have_the_law_that_exact_games_enumerate():
    game, n = zoo.parse("brps"), 8_000
    world = Sampled(game, n)
    rows = Rejected(samples=2, candidates=300, beta=0.8).write(world, STATE)
    assert world.asked == 300 and rows.writers == (INITIAL, INITIAL)
    found = np.zeros((3, 3))
    np.add.at(found, (rows.responses[:, 0], rows.responses[:, 1]), 1 / n)

    exact = Accepting(samples=2, beta=0.8).write(TableWorld(game), State.begin(game.initial()))
    law = np.zeros((3, 3))
    np.add.at(law, (exact.responses[:, 0], exact.responses[:, 1]), exact.weight)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    assert (abs(found - law) <= 4.5 * np.sqrt(law * (1 - law) / n)).all()
    apart = np.outer(law.sum(axis=1), law.sum(axis=0))
    assert abs(law - apart).max() > 0.01, "they share the response to beat: i.i.d. given it, not otherwise"


def test_under_bradley_terry_it_does_not_matter_who_is_to_be_beaten():
    reward = torch.tensor([[0.0, 1.0, -0.5, 2.0]], dtype=torch.float64)
    reference = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    game = PreferenceGame(torch.sigmoid(reward[:, :, None] - reward[:, None, :]), reference)
    rows = Accepting(samples=1, beta=0.5).write(TableWorld(game), State.begin(game.initial()))
    law = np.zeros(4)
    np.add.at(law, rows.responses[:, 0], rows.weight)
    want = (reference.log() + reward / 0.5).softmax(dim=1)[0].numpy()
    assert law == pytest.approx(want, abs=1e-12)
