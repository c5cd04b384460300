"""Environments for control: episodes from reset seeds, and trajectories as arrays; native, or from gymnasium."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# (observations [M, O], generator) -> actions [M, A], or [M] indices
Act = Callable[[Floats, np.random.Generator], npt.NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Actions:
    """The action space, in the environment's own units.

    size        dimensions of a continuous action, or the number of discrete actions.
    low, high   bounds of every continuous dimension; both empty where actions are indices below `size`.
    """

    size: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.low and not (len(self.low) == len(self.high) == self.size):
            raise ValueError(
                f"{self.size} dimensions need as many bounds, got {len(self.low)} and {len(self.high)}"
            )
        if not all(
            np.isfinite(a) and np.isfinite(b) and a < b for a, b in zip(self.low, self.high, strict=True)
        ):
            raise ValueError(f"bounds must be finite and increasing, got {self.low} and {self.high}")

    @property
    def discrete(self) -> bool:
        """Whether an action is an index."""
        return not self.low

    def check(self, actions: npt.NDArray[np.generic], what: str = "segment") -> None:
        """Raises ValueError, naming row and step, for an action [rows, steps, ...] that is outside the space."""
        values = np.asarray(actions, dtype=np.float64)
        if self.discrete:
            bad = (values < 0) | (values >= self.size) | (values != np.round(values))
        else:
            room = 1e-5 * (np.array(self.high) - np.array(self.low))  # what single precision leaves
            bad = (values < np.array(self.low) - room) | (values > np.array(self.high) + room)
        bad |= ~np.isfinite(values)
        if bad.any():
            place = tuple(np.argwhere(bad)[0])
            space = (
                f"an index from 0 to {self.size - 1}"
                if self.discrete
                else f"between {self.low[place[2]]:g} and {self.high[place[2]]:g}"
            )
            raise ValueError(
                f"{what} {place[0]}, step {place[1]}: the action {values[place]:g} is not {space}"
            )


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """M trajectories of T steps.

    observations  [M, T, O]    actions  [M, T, A] or [M, T]    rewards  [M, T]
    running       [M, T] whether the episode still ran at that step; what follows its end is padding with reward 0.
    """

    observations: Floats
    actions: npt.NDArray[np.generic]
    rewards: Floats
    running: npt.NDArray[np.bool_]

    @property
    def returns(self) -> Floats:
        """[M] undiscounted sum of rewards."""
        return np.asarray(self.rewards.sum(axis=1))


class Environment(Protocol):
    """What a policy acts in.

    horizon   steps of a whole episode.
    """

    @property
    def name(self) -> str: ...

    @property
    def observation_size(self) -> int: ...

    @property
    def actions(self) -> Actions: ...

    @property
    def horizon(self) -> int: ...

    def rollout(self, act: Act, seeds: Sequence[int], steps: int, draw: np.random.Generator) -> Trajectories:
        """Trajectories of `steps` steps, the m-th from the state that its reset seed gives."""
        ...


class Dynamics(Protocol):
    """A native environment with all its state in an array, so that many episodes step at once."""

    def reset(self, seed: int) -> Floats:
        """[S] a starting state."""
        ...

    def observe(self, states: Floats) -> Floats:
        """[M, O] of states [M, S]."""
        ...

    def step(
        self, states: Floats, actions: npt.NDArray[np.generic], draw: np.random.Generator
    ) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """(next states [M, S], rewards [M], whether the episode ended [M])."""
        ...


def roll(dynamics: Dynamics, act: Act, states: Floats, steps: int, draw: np.random.Generator) -> Trajectories:
    """Trajectories of native dynamics from given states [M, S]."""
    running = np.ones(len(states), dtype=np.bool_)
    seen, acted, earned, ran = [], [], [], []
    for _ in range(steps):
        observations = dynamics.observe(states)
        actions = act(observations, draw)
        after, rewards, ended = dynamics.step(states, actions, draw)
        seen.append(observations)
        acted.append(actions)
        earned.append(np.where(running, rewards, 0.0))
        ran.append(running)
        states = np.where(running[:, None], after, states)
        running = running & ~ended
    return Trajectories(
        observations=np.stack(seen, axis=1),
        actions=np.stack(acted, axis=1),
        rewards=np.stack(earned, axis=1),
        running=np.stack(ran, axis=1),
    )
