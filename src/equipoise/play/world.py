"""What the game loop asks of a world: an exact game (`play.table`) or text (`play.text`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.play.rows import Rows

T = TypeVar("T")
Floats = npt.NDArray[np.float64]

# The policies a round can speak of. A method's anchors and players refer to these names only.
INITIAL = "initial"  # the policy the run started from
START = "start"  # the policy at the start of this round (pi_t; "self")
BEFORE = "before"  # the policy at the start of the round before (in round 1: the initial policy)


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run stands: how many rounds are done, and which policy each name means.

    A policy is whatever its world understands: a table, or the name of a checkpoint. There is no random
    state: every draw is addressed by name (`state.seeds`), so a resumed run draws what it would have drawn.
    """

    round: int
    policies: Mapping[str, Any]

    @classmethod
    def begin(cls, initial: Any) -> State:
        return cls(round=1, policies={INITIAL: initial, START: initial, BEFORE: initial})

    def advance(self, policy: Any) -> State:
        """The next round starts from `policy`."""
        moved = {INITIAL: self.policies[INITIAL], BEFORE: self.policies[START], START: policy}
        return replace(self, round=self.round + 1, policies=moved)


class World(Protocol):
    """The six things that differ between a finite table and a transformer."""

    def prompts(self, state: State) -> Rows:
        """This round's prompts: rows without responses."""
        ...

    def recorded(self, state: State) -> Rows:
        """Recorded pairs with their labels."""
        ...

    def write(self, state: State, rows: Rows, by: str, count: int) -> Rows:
        """Append `count` responses per row, written by the named policy."""
        ...

    def compare(self, rows: Rows, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> Floats:
        """P(response first[i] beats response second[i]) of every row, from the oracle."""
        ...

    def anchors(self, state: State, rows: Rows, names: Mapping[str, str]) -> dict[str, Tensor]:
        """Frozen scores [N, K] under each anchor; `names` maps the objective's anchors to policies."""
        ...

    def fit(self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective) -> Any:
        """Minimise the objective from the round's starting policy; returns the new policy."""
        ...

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        """Run one stage of the round, or read back what an interrupted run had already finished."""
        ...

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        """`count` uniform draws on [0, 1), addressed by round and name."""
        ...
