"""Pendulum swing-up in numpy: the dynamics of gymnasium's Pendulum-v1, and its optimal advantage on a grid.

    theta'' = (3 g / 2 l) sin theta + 3 u / (m l^2),    reward = -(theta^2 + 0.1 theta'^2 + 0.001 u^2)

g = 10, m = l = 1, a step of 0.05 s (semi-implicit Euler), |theta'| <= 8, torque |u| <= 2; theta = 0 is upright and is
wrapped to [-pi, pi) in the reward; an action is the torque u, clipped to its bounds.
Checked against gymnasium where it is installed (tests/worlds/test_pendulum.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from equipoise.worlds.segments.environment import Act, Actions, Floats, Trajectories, roll

GRAVITY, STEP, FASTEST, TORQUE = 10.0, 0.05, 8.0, 2.0


def wrapped(angle: Floats) -> Floats:
    """Angles in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True)
class Pendulum:
    """The pendulum; a state is (theta, theta'), an observation (cos theta, sin theta, theta')."""

    name: ClassVar[str] = "pendulum"
    observation_size: ClassVar[int] = 3
    actions: ClassVar[Actions] = Actions(size=1, low=(-TORQUE,), high=(TORQUE,))
    horizon: ClassVar[int] = 200

    def reset(self, seed: int) -> Floats:
        """theta uniform on [-pi, pi], theta' on [-1, 1]: the law of Pendulum-v1, not its random numbers."""
        draw = np.random.Generator(np.random.Philox(seed))
        return np.array([draw.uniform(-np.pi, np.pi), draw.uniform(-1.0, 1.0)])

    def observe(self, states: Floats) -> Floats:
        return np.stack([np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1]], axis=1)

    def state(self, observations: Floats) -> Floats:
        """(theta, theta') [..., 2] of observations [..., 3]."""
        return np.stack(
            [np.arctan2(observations[..., 1], observations[..., 0]), observations[..., 2]], axis=-1
        )

    def moved(self, states: Floats, actions: Floats) -> tuple[Floats, Floats]:
        """(next states [..., 2], rewards [...]) of states [..., 2] and actions [...]."""
        angle, speed = states[..., 0], states[..., 1]
        torque = np.clip(actions, -TORQUE, TORQUE)
        reward = -(wrapped(angle) ** 2 + 0.1 * speed**2 + 0.001 * torque**2)
        faster = speed + (1.5 * GRAVITY * np.sin(angle) + 3.0 * torque) * STEP
        faster = np.clip(faster, -FASTEST, FASTEST)
        return np.stack([angle + faster * STEP, faster], axis=-1), reward

    def step(
        self, states: Floats, actions: npt.NDArray[np.generic], draw: np.random.Generator
    ) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        after, reward = self.moved(states, np.asarray(actions, dtype=np.float64)[:, 0])
        return after, reward, np.zeros(len(states), dtype=np.bool_)

    def rollout(self, act: Act, seeds: Sequence[int], steps: int, draw: np.random.Generator) -> Trajectories:
        return roll(self, act, np.stack([self.reset(seed) for seed in seeds]), steps, draw)


@dataclass(frozen=True, kw_only=True)
class SwingUp:
    """The pendulum's optimal values by value iteration on a grid, interpolated bilinearly.

    angles, speeds   points of the grid over [-pi, pi) and [-8, 8].
    torques          actions that are compared, evenly spaced.
    discount         gamma in (0, 1).
    """

    angles: int = 81
    speeds: int = 61
    torques: int = 9
    discount: float = 0.97

    @cached_property
    def value(self) -> Floats:
        """[angles, speeds] V* on the grid: iterated until no value moves by more than 1e-4."""
        return self._solved[0]

    @cached_property
    def _solved(self) -> tuple[Floats, Floats]:
        angle = -np.pi + 2 * np.pi * np.arange(self.angles) / self.angles
        speed = np.linspace(-FASTEST, FASTEST, self.speeds)
        states = np.stack(np.meshgrid(angle, speed, indexing="ij"), axis=-1)
        after, reward = Pendulum().moved(states[..., None, :], self.choices)
        corners, weights = self._corners(after)
        value = np.zeros(self.angles * self.speeds)
        while True:
            ahead = (value[corners] * weights).sum(axis=-1)
            new = (reward + self.discount * ahead).max(axis=-1).ravel()
            moved, value = np.abs(new - value).max(), new
            if moved <= 1e-4:
                return value.reshape(self.angles, self.speeds), reward

    @property
    def choices(self) -> Floats:
        """The actions that are compared."""
        return np.linspace(-TORQUE, TORQUE, self.torques)

    def advantage(self, observations: Floats, actions: Floats) -> Floats:
        """A*(s, a) = r(s, a) + gamma V*(s') - max_b Q*(s, b) of observations [..., 3] and actions [..., 1].

        At most 0 up to what the grid leaves: a torque between two compared ones may be a little better than both.
        """
        states = Pendulum().state(np.asarray(observations, dtype=np.float64))
        taken = self._action_value(states, np.asarray(actions, dtype=np.float64)[..., 0])
        best = self._action_value(states[..., None, :], self.choices).max(axis=-1)
        return np.asarray(taken - best)

    def act(self, observations: Floats) -> Floats:
        """[M, 1] the best of the compared actions."""
        states = Pendulum().state(observations)
        best = self._action_value(states[:, None, :], self.choices).argmax(axis=-1)
        return self.choices[best][:, None]

    def _action_value(self, states: Floats, actions: Floats) -> Floats:
        after, reward = Pendulum().moved(states, actions)
        corners, weights = self._corners(after)
        return np.asarray(reward + self.discount * (self.value.ravel()[corners] * weights).sum(axis=-1))

    def _corners(self, states: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
        """([..., 4] indices of the grid points around states [..., 2], [..., 4] their weights)."""
        across = (wrapped(states[..., 0]) + np.pi) / (2 * np.pi) * self.angles
        along = (states[..., 1] + FASTEST) / (2 * FASTEST) * (self.speeds - 1)
        i, j = np.floor(across).astype(np.intp), np.floor(along).astype(np.intp)
        j = np.clip(j, 0, self.speeds - 2)
        u, v = across - i, along - j
        i, right = i % self.angles, (i + 1) % self.angles
        places = [
            i * self.speeds + j,
            i * self.speeds + j + 1,
            right * self.speeds + j,
            right * self.speeds + j + 1,
        ]
        weights = [(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v]
        return np.stack(places, axis=-1), np.stack(weights, axis=-1)
