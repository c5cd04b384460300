"""The claim on regret and partial return: its world, and its rule on evidence made to break it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import regret_preferences as claim
from equipoise.games.segments import partial_return

JITTER = np.array([-0.02, -0.01, 0, 0.01, 0.02])


def judged(regret=0.95, partial=0.8, own=0.8, advantage=0.9, seen=0.5, blind=0.0, shifted=0.5):
    """Five grids around the given worths."""
    found = {
        ("regret", "regret", claim.PAIRS): regret + JITTER,
        ("regret", "partial_return", claim.PAIRS): partial - JITTER,
        ("regret", "advantage", claim.PAIRS): advantage + JITTER,
        ("partial_return", "partial_return", claim.PAIRS): own - JITTER,
        ("partial_return", "regret", claim.PAIRS): own - JITTER,
        ("partial_return", "advantage", claim.PAIRS): own - JITTER,
    }
    moved = {"regret": seen + JITTER, "partial_return": blind + 0 * JITTER}
    return claim.judge(found, moved, shifted + JITTER).verdict


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"partial": 0.94}, "fails"),
        ({"own": 0.95}, "mixed"),
        ({"advantage": 0.8}, "mixed"),
        ({"regret": 0.85, "own": 0.7}, "mixed"),
        ({"blind": 1e-6}, "mixed"),
        ({"seen": 0.0}, "mixed"),
        ({"shifted": 0.99}, "mixed"),
    ],
)
def test_the_rule(change, expected):
    assert judged(**change) == expected


def test_every_segment_is_there_once_and_none_acts_in_the_goal():
    world = claim.grid()
    found = claim.every_segment(world)
    rows = torch.cat([found.states, found.actions], dim=1)
    assert len(rows) == len(set(map(tuple, rows.tolist())))
    assert not bool(world.terminal[found.states[:, :-1]].any())
    assert bool(world.terminal[found.states[:, -1]].any())
    inside = (claim.WIDTH**2 - 1) * 4**claim.LENGTH
    assert 0 < len(rows) < inside


def test_worth_of_the_best_and_of_the_uniform_policy():
    world = claim.grid()
    reward = claim.draw_rewards(world, 3)
    assert claim.worth(world, reward, world.greedy(reward)).tolist() == pytest.approx([1, 1, 1])
    random = claim.worth(world, reward, torch.zeros(3, claim.WIDTH**2, dtype=torch.long))
    assert (random < 1).all()


def test_labels_follow_the_segments_by_their_model():
    world = claim.grid()
    reward = 20 * claim.draw_rewards(world, 2)  # hardly any luck
    first, second, luck = claim.sample(world, 2, 200)
    gap = partial_return(world, reward, first) - partial_return(world, reward, second)
    sure = gap.abs() > 5
    assert bool(((luck < torch.sigmoid(gap)) == (gap > 0))[sure].double().mean() > 0.99)
    assert bool(sure.any())


def test_learning_repeats():
    world = claim.grid()
    reward = claim.draw_rewards(world, 2)
    one, other = (claim.learn(world, reward, "regret", 50, 20) for _ in range(2))
    assert set(one) == {("regret", name, 50) for name in ("regret", "partial_return", "advantage")}
    assert all(np.array_equal(one[key], other[key]) for key in one)
