"""The smallest scored world: points of the plane, drawn by a Gaussian policy, preferred by their first coordinate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.core.intervals import Interval, clustered_mean
from equipoise.play.state import BEFORE, INITIAL, START, State
from equipoise.worlds.scored.fit import Training
from equipoise.worlds.scored.policies import Policy
from equipoise.worlds.scored.task import Draw, Recorded, Task
from equipoise.worlds.scored.world import ScoredWorld

Floats = np.ndarray


@dataclass(frozen=True)
class LogDensity:
    """-|x - mean_prompt|^2/2; or its estimate by one coordinate that each step draws (`fresh`)."""

    fresh: bool = False

    def __call__(
        self, parameters: Mapping[str, Tensor], examples: Mapping[str, Tensor], prompts: Tensor, draw: Draw
    ) -> Tensor:
        apart = (examples["x"] - parameters["mean"][prompts][:, None]).square()
        if not self.fresh:
            return -apart.sum(dim=-1) / 2
        one = torch.randint(2, (len(prompts),), generator=draw.generator())
        return -apart.gather(-1, one[:, None, None].expand(-1, apart.shape[1], 1)).squeeze(-1)

    def lengths(self, examples: Mapping[str, Tensor]) -> Tensor:
        return torch.ones(examples["x"].shape[:-1])


class FirstCoordinate:
    fingerprint: ClassVar[str] = "points by their first coordinate"

    def prefer(self, prompts: Floats, first: Mapping[str, Any], second: Mapping[str, Any]) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(first["x"] - second["x"])[:, 0])))

    def rewards(self, prompts: Floats, examples: Mapping[str, Any]) -> Floats:
        return np.asarray(examples["x"][:, 0], dtype=np.float64)


class Normal:
    def sample(self, parameters: Mapping[str, Tensor], prompts: Floats, seed: int) -> Mapping[str, Any]:
        noise = np.random.default_rng(seed).standard_normal((len(prompts), 2))
        return {"x": parameters["mean"].numpy()[prompts] + noise}


class Mean:
    higher_is_better: ClassVar[Mapping[str, bool]] = {"mean": True}

    def measure(self, parameters: Mapping[str, Tensor], seed: int) -> Mapping[str, Interval]:
        return {"mean": clustered_mean(parameters["mean"][:, 0].tolist(), range(3))}


def points(*, fresh: bool = False) -> Task:
    """Three prompts; 40 recorded pairs and 10 lists of three."""
    draw = np.random.default_rng(0)
    x, pairs = draw.standard_normal((60, 2)), draw.permuted(np.tile(np.arange(60), (40, 1)), axis=1)[:, :2]
    lists = draw.permuted(np.tile(np.arange(60), (10, 1)), axis=1)[:, :3]
    prob = (x[pairs[:, 0], 0] > x[pairs[:, 1], 0]).astype(float)
    return Task(
        name="points",
        title="Points",
        score=LogDensity(fresh),
        sampler=Normal(),
        judge=FirstCoordinate(),
        evaluation=Mean(),
        start=lambda seed: {"mean": torch.zeros(3, 2, dtype=torch.float64)},
        recorded=Recorded(
            examples={"x": x},
            pairs=pairs,
            prob=prob,
            prompts=draw.integers(3, size=40),
            lists=lists,
            list_rewards=x[lists, 0],
        ),
        prompts=lambda draw, count: draw.integers(3, size=count),
    )


def points_world(*, fresh: bool = False, listed: bool = False, **training: Any) -> ScoredWorld:
    chosen = {"steps": 20, "batch": 16, "lr": 0.05} | training
    made = ScoredWorld.in_memory(points(fresh=fresh), Training(**chosen), per_round=6)
    return made if not listed else ScoredWorld(**{**vars(made), "listed": True})


def second_round(world: ScoredWorld) -> State:
    """The state of a second round, whose policy has moved."""
    state = world.begin(keep_past=True)
    moved = Policy({"mean": torch.tensor([[0.5, -0.2]], dtype=torch.float64).repeat(3, 1)})
    state = state.advance({START: moved})
    assert state.policies[BEFORE] is state.policies[INITIAL]
    return state
