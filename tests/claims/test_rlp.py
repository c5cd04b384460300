"""The claim on rewards learned again on policy samples: its figures, and its rule on evidence made to break it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import rlp_bandits, rlp_learners
from equipoise.claims.rewards.rlp import judge
from equipoise.claims.rewards.rlp_bandits import accuracy, optimum, recorded, relearned, synthetic
from equipoise.claims.rewards.rlp_learners import Featured, TeaHouse


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small keep two threads waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def judged(lost=-0.1, uml=(0.1, 0.1), spg=(0.1, 0.1)):
    """Five seeds around the given differences from the first reward: (accuracy, value) of each variant."""
    jitter = np.array([-0.02, -0.01, 0, 0.01, 0.02])[:, None] * np.array([1, 1, 0])
    base = np.tile([0.7, 1.0, 1.0], (5, 1))
    figures = {
        "reference": base - np.array([lost, 0, 0]) + jitter,
        "recorded": base,
        "uml": base + np.array([*uml, 0]) + jitter,
        "spg": base + np.array([*spg, 0]) + jitter,
    }
    return judge(figures).verdict


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"uml": (0.0, 0.1)}, "fails"),
        ({"spg": (0.01, 0.1)}, "fails"),
        ({"uml": (0.1, 0.0)}, "mixed"),
        ({"spg": (0.1, -0.1)}, "mixed"),
        ({"lost": 0.0}, "mixed"),
    ],
)
def test_the_rule(change, expected):
    assert judged(**change) == expected


def test_accuracy_of_the_truth_and_of_its_opposite():
    bandit = Featured(0).bandit
    policy = optimum(bandit, bandit.reward)
    assert accuracy(bandit, 2 * bandit.reward + 3, policy) == pytest.approx(1)
    assert accuracy(bandit, -bandit.reward, policy) == pytest.approx(0)


def test_the_optimum_is_the_tilted_reference():
    bandit = Featured(1).bandit
    policy = optimum(bandit, bandit.reward)
    flat = (policy.log() - bandit.reference - bandit.reward / rlp_bandits.TAU).std(dim=1)
    assert float(flat.max()) < 1e-9
    assert policy.shape == (rlp_learners.PROMPTS, rlp_learners.RESPONSES)


def test_pairs_of_the_most_frequent_response_against_the_others():
    own = torch.tensor([[1, 1, 0, 2], [3, 3, 3, 3], [0, 1, 2, 3], [2, 0, 2, 2]])
    made = synthetic(own, torch.zeros(4, 4))
    assert made.prompts.tolist() == [0, 0, 3]
    assert made.responses.tolist() == [[1, 0], [1, 2], [2, 0]]
    assert made.weight.tolist() == [0.5, 0.5, 1]
    assert not len(synthetic(own[1:3], torch.zeros(4, 4)).prompts)


def test_one_bandit_is_the_same_each_time(monkeypatch):
    monkeypatch.setattr(rlp_learners, "FITTING", replace(rlp_learners.FITTING, steps=40))

    def learn():
        world = Featured(0)
        return relearned(world.bandit, torch.Generator().manual_seed(0), partial(world.perceptron, seed=0))

    first = learn()
    assert first == learn()
    assert list(first) == ["reference", "recorded", "uml", "spg"]
    assert first["recorded"][1] > first["reference"][1]  # the true reward rises at first
    assert first["recorded"][2] > 0
    assert len(set(first.values())) == 4


@pytest.mark.slow
def test_a_reward_model_learns_the_tea_house_and_views_change_it(monkeypatch):
    """The labels that it is given decide what it prefers; the views of an information bottleneck reach it."""
    monkeypatch.setattr(rlp_learners, "EPOCHS", 3)
    house = TeaHouse()
    few = replace(house.bandit, pairs=48)
    pairs = recorded(few, torch.Generator().manual_seed(0))
    plain = house.reward_model(pairs, None, 0)
    assert plain.shape == (64, 24) and torch.equal(plain, house.reward_model(pairs, None, 0))
    seen = plain[pairs.prompts[:, None], pairs.responses]
    turned = house.reward_model(pairs._replace(responses=pairs.responses.flip(1)), None, 0)
    other = turned[pairs.prompts[:, None], pairs.responses]
    assert (seen[:, 0] - seen[:, 1]).mean() > (other[:, 0] - other[:, 1]).mean() + 0.01
    views = torch.randint(24, (64, 4), generator=torch.Generator().manual_seed(1))
    assert float((house.reward_model(pairs, views, 0) - plain).abs().max()) > 1e-4
