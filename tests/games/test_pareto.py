"""Pareto fronts: metrics by hand, and C-MORL's course on deep sea treasure."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.games.mdp import deep_sea_treasure
from equipoise.games.pareto import crowding, discover, dominated, hypervolume, simplex, sparsity


def test_the_volume_of_one_point_is_a_product():
    assert hypervolume(np.array([[2.0, 3.0, 4.0]]), np.array([1.0, 1.0, 1.0])) == pytest.approx(1 * 2 * 3)
    assert hypervolume(np.array([[0.0, 9.0]]), np.array([1.0, 1.0])) == 0.0


def test_volumes_by_counting():
    draw, reference = np.random.default_rng(0), np.zeros(3)
    points = draw.integers(1, 8, size=(6, 3)).astype(float)
    cells = np.stack(np.meshgrid(*[np.arange(8) + 0.5] * 3), axis=-1).reshape(-1, 3)
    counted = (points[None] > cells[:, None]).all(axis=2).any(axis=1).sum()
    assert hypervolume(points, reference) == pytest.approx(counted)
    assert hypervolume(points[:5], reference) <= hypervolume(points, reference)


def test_the_front_of_weights_by_hand():
    # 1 after a step and 124 after 19, above (0, -50)
    points = np.array([[1.0, -1.0], [124.0, -19.0]])
    assert hypervolume(points, np.array([0.0, -50.0])) == 1 * 49 + 123 * 31


def test_sparsity_of_an_even_front_falls_as_its_points():
    def even(count: int) -> float:
        x = np.linspace(0, 1, count + 1)
        return sparsity(np.stack([x, 1 - x], axis=1))

    assert even(20) == pytest.approx(even(10) / 4)  # gaps of 1/n, squared, averaged
    assert sparsity(np.zeros((1, 2))) == 0.0


def test_dominated_points_and_equal_ones():
    points = np.array([[1.0, 1.0], [2.0, 0.0], [1.0, 0.5], [1.0, 1.0]])
    assert dominated(points).tolist() == [False, False, True, True]


def test_ends_are_the_loneliest():
    found = crowding(np.array([[0.0, 4.0], [1.0, 3.0], [3.0, 1.0], [4.0, 0.0]]))
    assert np.isinf(found[[0, 3]]).all() and found[1:3].tolist() == [1.5, 1.5]


def test_weights_lie_on_the_simplex():
    for count, objectives in ((11, 2), (10, 3)):
        found = simplex(count, objectives)
        assert len(found) == count and np.allclose(found.sum(axis=1), 1) and (found >= 0).all()


def test_extension_finds_what_no_linear_preference_does():
    front = discover(deep_sea_treasure("concave"), reference=(0, -50), weights=5, rounds=2)
    first, *_, last = front.stages
    assert len(first.points) == 2 and first.hypervolume == pytest.approx(3862, abs=0.1)
    assert last.hypervolume > 4500 and last.sparsity < first.sparsity / 10
    assert last.expected_utility == pytest.approx(first.expected_utility, rel=1e-6)
    assert front.violation < 1e-6
    mdp = deep_sea_treasure("concave")
    worths = [mdp.returns(policy) for policy in front.policies]
    np.testing.assert_allclose(worths, front.points, atol=1e-3)
    # a mixture: between the hull's vertices, where every single treasure lies below
    assert any(1.5 < x < 123 and y > -19 * x / 124 - 1 for x, y in front.points)


def test_refuses_what_makes_no_sense():
    mdp = deep_sea_treasure("concave")
    with pytest.raises(ValueError, match="2 coordinates"):
        discover(mdp, reference=(0.0,))
    with pytest.raises(ValueError, match="beta"):
        discover(mdp, reference=(0.0, -50.0), beta=0.0)
