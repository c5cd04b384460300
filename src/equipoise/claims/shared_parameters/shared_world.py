"""Exact games played by policies whose responses share parameters, as a network's do: what is learnt for one prompt
or prefix moves others. The methods are those of `methods`; only the steps are the parameters' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.core.dims import Strategy
from equipoise.core.objectives import Objective
from equipoise.games.expectation import Comparisons, loss
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, State
from equipoise.worlds.table.world import TableWorld


@dataclass(frozen=True, eq=False)
class Shared:
    """A policy by its parameters: `table` maps them to log-probs [X, A]."""

    theta: Tensor
    table: Callable[[Tensor], Strategy]

    def log_probs(self) -> Strategy:
        return self.table(self.theta)

    def probs(self) -> Strategy:
        return self.log_probs().exp()


@dataclass(frozen=True)
class SharedWorld(TableWorld):
    """A table world whose policies are `Shared`.

    steps, pace   a fit is `steps` gradient steps of size `pace`; a `descend` is one step, at its own rate.
    """

    steps: int = 1
    pace: float = 1.0

    def fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
    ) -> Any:
        return self._moved(state.policies[start], rows, anchors, objective, self.pace, self.steps)

    def descend(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        rate: float,
        start: str = START,
        name: str = POLICY,
        speed: float = 1.0,
    ) -> Any:
        return self._moved(state.policies[start], rows, anchors, objective, speed * rate, 1)

    @staticmethod
    def _moved(
        policy: Shared,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        rate: float,
        steps: int,
    ) -> Shared:
        prompts, responses, weight = map(torch.from_numpy, (rows.prompts, rows.responses, rows.weight))
        prob, reward = (None if v is None else torch.from_numpy(v) for v in (rows.prob, rows.reward))
        compared, theta = Comparisons(prompts, responses, weight, prob, reward), policy.theta
        for _ in range(steps):
            theta = theta.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(objective, policy.table(theta), anchors, compared), theta)
            theta = theta.detach() - rate * gradient
        return Shared(theta, policy.table)

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> Any:
        parts = [weight * state.policies[policy].theta for policy, weight in weights.items()]
        return Shared(torch.stack(parts).sum(dim=0), state.policies[START].table)
