"""K-choice curation as a pairing: the choice by hand, its draws, and the mixture with recorded responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from equipoise.play.pairings.curated import Curated, choice_of
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.updates.demonstrations import WithDemonstrations, mixture

REWARD = np.array([0.0, 1.0, 2.0, -1.0])  # of responses 0 .. 3
LENGTH = np.array([1.0, 4.0, 2.0, 5.0])


@dataclass
class Drawn:
    """A world that draws: Bradley-Terry comparisons, lengths, two recorded responses that weigh their tokens."""

    draws: np.ndarray = field(default_factory=lambda: np.zeros(0))
    compared: int = 0

    def compare(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        self.compared += 1
        every = np.arange(len(rows))
        a, b = rows.responses[every, first], rows.responses[every, second]
        return 1 / (1 + np.exp(REWARD[b] - REWARD[a]))

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(rows.responses.shape), LENGTH[rows.responses]

    def uniforms(self, state: State, name: str, count: int) -> np.ndarray:
        assert name == "curation" and count == len(self.draws)
        return self.draws

    def recorded(self, state: State) -> Rows:
        return Rows(
            prompts=np.array([7, 8]),
            responses=np.array([[1], [3]]),
            weight=np.array([4.0, 3 * 5.0]),
            writers=("recorded",),
            reward=np.ones((2, 1)),
        )


def sampled(n: int) -> Rows:
    return Rows(
        prompts=np.arange(n),
        responses=np.tile(np.arange(3), (n, 1)),
        weight=np.ones(n),
        writers=("start",) * 3,
    )


def state() -> Any:
    return State.begin(None)


def test_a_draw_is_kept_as_often_as_its_share():
    draws = (np.arange(1000) + 0.5) / 1000
    made = Curated().form(Drawn(draws), state(), sampled(1000))
    share = np.exp(REWARD[:3]) / np.exp(REWARD[:3]).sum()
    assert np.bincount(made.responses[:, 0], minlength=3) / 1000 == pytest.approx(share, abs=0.002)
    assert made.rewards.tolist() == [[1.0]] * 1000
    assert made.weight == pytest.approx(LENGTH[made.responses[:, 0]])


def test_each_pair_of_a_prompt_is_asked_once():
    world = Drawn(np.full(2, 0.1))
    Curated().form(world, state(), sampled(2))
    assert world.compared == 3


@pytest.mark.parametrize(("gamma", "kept"), [(0.0, [0, 0, 1, 2]), (1e3, [2, 2, 2, 2])])
def test_gamma_is_the_sharpness_of_the_choice(gamma: float, kept: list[int]):
    """0: any response, whatever its reward; large: the best of them."""
    world = Drawn(np.array([0.0, 0.3, 0.5, 0.99]))
    assert Curated(gamma=gamma).form(world, state(), sampled(4)).responses[:, 0].tolist() == kept


def test_without_a_draw_every_response_has_the_weight_of_its_choice():
    made = Curated(draw=False).form(Drawn(), state(), sampled(1))
    share = np.exp(REWARD[:3]) / np.exp(REWARD[:3]).sum()
    assert made.responses[:, 0].tolist() == [0, 1, 2]
    assert made.weight == pytest.approx(share * LENGTH[:3])


@pytest.mark.parametrize("real", [0.25, 0.8])
def test_recorded_responses_have_their_share_of_what_is_imitated(real: float):
    """Within each kind the weights keep their proportions; the mean weight of all is 1."""
    own = Curated(gamma=0.0).form(Drawn(np.array([0.01, 0.5, 0.9])), state(), sampled(3))
    recorded = Drawn().recorded(state())
    made = mixture(own, recorded, real)
    assert made.responses[:, 0].tolist() == [0, 1, 2, 1, 3]
    assert made.weight[3:].sum() / made.weight.sum() == pytest.approx(real)
    assert made.weight[4] / made.weight[3] == pytest.approx(15 / 4)
    assert made.weight[1] / made.weight[2] == pytest.approx(LENGTH[1] / LENGTH[2])
    assert made.weight.mean() == pytest.approx(1)
    assert made.rewards.tolist() == [[1.0]] * 5 and made.prob is None


def test_large_rewards_do_not_overflow():
    assert choice_of(np.array([[1e4, 1e4 - 1, -1e4]]))[0] == pytest.approx([0.7310586, 0.2689414, 0])


def test_what_it_needs_and_refuses():
    assert str(WithDemonstrations(real=0.0).needs) == "prompts"
    assert str(WithDemonstrations(real=0.1).needs) == "demonstrations"
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="real must be a share"):
            WithDemonstrations(real=wrong)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="gamma must be"):
            Curated(gamma=wrong)
    with pytest.raises(ValueError, match="at least two responses"):
        Curated().check(1)
    with pytest.raises(ValueError, match="no anchors"):
        nothing: Any = None
        WithDemonstrations().move(nothing, nothing, state(), sampled(1), {"reference": nothing})
