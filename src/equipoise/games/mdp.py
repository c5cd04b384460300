"""Finite stochastic decision processes with vector rewards: values, occupancy measures, successor features, exactly.

mdp = deep_sea_treasure("concave")
values, actions = mdp.optimal(mdp.reward @ weights)
found = mdp.best_occupancy(weights, at_least={1: -10.0})       # linear program over occupancy measures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Infeasible(ValueError):
    """No policy meets the constraints."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TabularMdp:
    """Finite MDP with m objectives.

    transition  [S, A, S] probabilities of the next state.      reward   [S, A, m]
    start       [S] distribution of the first state.            discount g in [0, 1)

    Raises ValueError for other shapes, rows that are no distributions, or a discount out of range.
    """

    transition: Floats
    reward: Floats
    start: Floats
    discount: float

    def __post_init__(self) -> None:
        states, actions = self.transition.shape[:2]
        if self.transition.shape != (states, actions, states) or self.reward.shape[:2] != (states, actions):
            raise ValueError(
                f"transition must be [S, A, S] and reward [S, A, m], got {list(self.transition.shape)} and "
                f"{list(self.reward.shape)}"
            )
        for what, rows in (("transition", self.transition.reshape(-1, states)), ("start", self.start[None])):
            if rows.shape[1] != states or (rows < 0).any() or not np.allclose(rows.sum(axis=1), 1):
                raise ValueError(f"{what} has a row that is no distribution over {states} states")
        if not 0 <= self.discount < 1:
            raise ValueError(f"discount must lie in [0, 1), got {self.discount!r}")

    @property
    def states(self) -> int:
        return len(self.start)

    def optimal(self, reward: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
        """(Q* [S, A], a greedy action [S]) of a scalar reward [S, A], by policy iteration."""
        actions = reward.argmax(axis=1)
        while True:
            values = self.action_values(reward, np.eye(reward.shape[1])[actions])
            now = values[np.arange(self.states), actions]
            if not (values.max(axis=1) > now + 1e-10 * (1 + np.abs(now))).any():
                return values, actions
            actions = np.where(
                values.max(axis=1) > now + 1e-10 * (1 + np.abs(now)), values.argmax(axis=1), actions
            )

    def action_values(self, reward: Floats, policy: Floats) -> Floats:
        """[S, A] Q of a policy [S, A] under a scalar reward [S, A], solved exactly."""
        moves = np.einsum("sa,sat->st", policy, self.transition)
        value = np.linalg.solve(np.eye(self.states) - self.discount * moves, (policy * reward).sum(axis=1))
        return np.asarray(reward + self.discount * self.transition @ value)

    def successor_features(self, policy: Floats, features: Floats) -> Floats:
        """psi [S, A, F] = E sum_t g^t phi(s_t, a_t) of features [S, A, F]: Q of w . phi is w . psi."""
        found = [self.action_values(features[..., f], policy) for f in range(features.shape[2])]
        return np.stack(found, axis=-1)

    def returns(self, policy: Floats) -> Floats:
        """[m] expected discounted return of each objective from the start."""
        values = [
            (policy * self.action_values(self.reward[..., k], policy)).sum(axis=1)
            for k in range(self.reward.shape[2])
        ]
        return np.asarray([self.start @ value for value in values])

    def occupancy(self, policy: Floats) -> Floats:
        """rho [S, A] = sum_t g^t P(s_t = s, a_t = a)."""
        moves = np.einsum("sa,sat->st", policy, self.transition)
        visits = np.linalg.solve((np.eye(self.states) - self.discount * moves).T, self.start)
        return np.asarray(visits[:, None] * policy)

    def best_occupancy(self, weights: Floats, at_least: Mapping[int, float] | None = None) -> Floats:
        """rho [S, A] of a policy that maximises w . G subject to G_j >= at_least[j]; a linear program.

            max_rho sum rho (w . r)    s.t. sum_a rho(s', a) = mu(s') + g sum_{s, a} P(s'|s, a) rho(s, a),    rho >= 0

        Stochastic in general: under constraints a mixture can beat every deterministic policy. Raises Infeasible.
        """
        from scipy.optimize import linprog

        states, actions = self.transition.shape[:2]
        flow = (
            np.repeat(np.eye(states), actions, axis=1) - self.discount * self.transition.reshape(-1, states).T
        )
        rewards = self.reward.reshape(states * actions, -1)
        bounds = at_least or {}
        found = linprog(
            -rewards @ weights,
            A_ub=-rewards.T[list(bounds)] if bounds else None,
            b_ub=-np.array(list(bounds.values())) if bounds else None,
            A_eq=flow,
            b_eq=self.start,
            method="highs",
        )
        if not found.success or found.x is None:
            raise Infeasible(f"the linear program has no solution: {found.message}")
        return np.asarray(np.maximum(found.x, 0.0)).reshape(states, actions)

    def worth(self, occupancy: Floats) -> Floats:
        """[m] returns of an occupancy measure."""
        return np.asarray(np.einsum("sa,sam->m", occupancy, self.reward))


def policy_of(occupancy: Floats) -> Floats:
    """[S, A] the policy of an occupancy measure; uniform where it never comes."""
    mass = occupancy.sum(axis=1, keepdims=True)
    return np.where(mass > 1e-12, occupancy / np.maximum(mass, 1e-300), 1 / occupancy.shape[1])


# column's depth, and what lies there (Vamplew et al. 2011): treasures worth more lie deeper and further
DEPTHS = (1, 2, 3, 4, 4, 4, 7, 7, 9, 10)
TREASURES: Mapping[str, Sequence[float]] = {
    "concave": (1, 2, 3, 5, 8, 16, 24, 50, 74, 124),
    "convex": (0.7, 8.2, 11.5, 14.0, 15.1, 16.1, 19.6, 20.3, 22.4, 23.7),
}
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def deep_sea_treasure(kind: str = "concave", discount: float = 1 - 1e-6) -> TabularMdp:
    """Deep sea treasure: a submarine that starts at the top left takes one treasure; objectives (treasure, -steps).

    A move into a wall or below the ground stays in place. Raises ValueError for an unknown kind.
    """
    if kind not in TREASURES:
        raise ValueError(f"no map {kind!r}; known: {', '.join(TREASURES)}")
    cells = [(row, column) for column, depth in enumerate(DEPTHS) for row in range(depth + 1)]
    place = {cell: index for index, cell in enumerate(cells)}
    end = len(cells)
    transition = np.zeros((end + 1, len(MOVES), end + 1))
    reward = np.zeros((end + 1, len(MOVES), 2))
    for cell, index in place.items():
        for action, (down, right) in enumerate(MOVES):
            if cell[0] == DEPTHS[cell[1]]:  # a treasure, taken on arrival: nothing follows
                transition[index, action, end] = 1
                continue
            after = (cell[0] + down, cell[1] + right)
            after = after if after in place else cell
            transition[index, action, place[after]] = 1
            found = TREASURES[kind][after[1]] if after[0] == DEPTHS[after[1]] else 0.0
            reward[index, action] = (found, -1.0)
    transition[end, :, end] = 1
    start = np.zeros(end + 1)
    start[place[0, 0]] = 1
    return TabularMdp(transition=transition, reward=reward, start=start, discount=discount)
