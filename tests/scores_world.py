"""A world of named scores alone: what pairings on an oracle's scores ask, by hand, and tensors that are cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from equipoise.play.rows import Rows
from equipoise.play.state import State

# a: mean 1, deviation 1; b: mean 20, deviation 10
NAMED = {"a": np.array([[0.0, 2.0], [2.0, 0.0]]), "b": np.array([[10.0, 10.0], [30.0, 30.0]])}


@dataclass
class Scores:
    """Named scores [2, 2], and tensors that are made once."""

    named: Mapping[str, np.ndarray]
    made: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def named_scores(self, rows: Rows) -> Mapping[str, np.ndarray]:
        return self.named

    def cached(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        if name not in self.made:
            self.made[name] = make(0)
        return self.made[name]


def two_rows() -> Rows:
    """Two prompts with two responses each."""
    return Rows(
        prompts=np.arange(2),
        responses=np.zeros((2, 2), dtype=int),
        weight=np.ones(2),
        writers=("start", "start"),
    )
