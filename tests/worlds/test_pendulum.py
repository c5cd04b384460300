"""The pendulum: its dynamics are gymnasium's, its grid's advantages are at most 0 and its policy holds it up."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.worlds.segments.pendulum import Pendulum, SwingUp
from equipoise.worlds.segments.swing_up import solved


def test_the_dynamics_are_gymnasiums():
    gymnasium = pytest.importorskip("gymnasium")
    outer = gymnasium.make("Pendulum-v1").unwrapped
    ours, draw = Pendulum(), np.random.default_rng(0)
    outer.reset(seed=1)
    state = np.array(outer.state)[None]
    for _ in range(200):
        action = draw.uniform(-3, 3, size=(1, 1))
        seen, reward, *_ = outer.step(action[0])
        state, earned, _ = ours.step(state, action, draw)
        np.testing.assert_allclose(ours.observe(state)[0], seen, atol=1e-5)
        assert earned[0] == pytest.approx(float(reward), abs=1e-8)


def test_two_steps_by_hand():
    # hanging down at rest with torque 1: theta'' = 15 sin(pi) + 3, reward -(pi^2 + 0.001)
    state, reward, ended = Pendulum().step(
        np.array([[np.pi, 0.0]]), np.array([[1.0]]), np.random.default_rng(0)
    )
    np.testing.assert_allclose(state, [[np.pi + 0.0075, 0.15]], atol=1e-12)
    assert reward[0] == pytest.approx(-(np.pi**2) - 0.001) and not ended[0]
    _, fast, _ = Pendulum().step(np.array([[0.0, 8.0]]), np.array([[9.0]]), np.random.default_rng(0))
    assert fast[0] == pytest.approx(-(6.4 + 0.004))


def test_the_best_of_the_compared_torques_has_no_regret():
    seen = Pendulum().observe(np.random.default_rng(0).uniform(-3, 3, size=(500, 2)))
    taken = solved().act(seen)
    np.testing.assert_allclose(solved().advantage(seen, taken), 0.0, atol=1e-9)
    others = np.random.default_rng(1).choice(solved().choices, size=(500, 1))
    assert solved().advantage(seen, others).max() <= 1e-9


def test_the_grids_policy_swings_it_up():
    pendulum, best = Pendulum(), solved()
    found = pendulum.rollout(lambda seen, draw: best.act(seen), range(20), 200, np.random.default_rng(0))
    assert found.returns.mean() > -250  # at random it is about -1200
    assert found.rewards[:, -20:].mean() > -0.1


def test_values_obey_their_equation():
    coarse = SwingUp(angles=21, speeds=15, torques=5)
    assert coarse.value.shape == (21, 15) and coarse.value.max() <= 1e-9
