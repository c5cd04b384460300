"""Updates: how the policy moves in a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.play.rows import Rows
from equipoise.play.world import State, World


class Update(Protocol):
    def move(
        self, world: World, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective
    ) -> Any: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class Refit:
    """Minimise the round's objective, starting from the policy at the start of the round."""

    def move(
        self, world: World, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective
    ) -> Any:
        return world.fit(state, rows, anchors, objective)

    def describe(self) -> str:
        return "refit from the last iterate"
