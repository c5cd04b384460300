"""The claim on rewards learned again on policy samples: its figures, and its rule on evidence made to break it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import rlp
from equipoise.claims.rewards.rlp import RESPONSES, accuracy, draw_bandit, judge, learn, optimum


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
    bandit = draw_bandit(0)
    policy = optimum(bandit, bandit.reward)
    assert accuracy(bandit, 2 * bandit.reward + 3, policy) == pytest.approx(1)
    assert accuracy(bandit, -bandit.reward, policy) == pytest.approx(0)


def test_the_optimum_is_the_tilted_reference():
    bandit = draw_bandit(1)
    policy = optimum(bandit, bandit.reward)
    flat = (policy.log() - bandit.reference - bandit.reward / rlp.TAU).std(dim=1)
    assert float(flat.max()) < 1e-9
    assert policy.shape == (rlp.PROMPTS, RESPONSES)


def test_one_bandit_is_the_same_each_time(monkeypatch):
    monkeypatch.setattr(rlp, "FITTING", replace(rlp.FITTING, steps=40))
    first = learn(draw_bandit(0), 0)
    assert first == learn(draw_bandit(0), 0)
    assert list(first) == ["reference", "recorded", "uml", "spg"]
    assert first["recorded"][1] > first["reference"][1]  # the true reward rises at first
    assert first["recorded"][2] > 0
    assert len(set(first.values())) == 4
