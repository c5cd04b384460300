"""What players are: who writes the responses of a round."""

from __future__ import annotations

from typing import Protocol

from equipoise.play.rows import Rows
from equipoise.play.state import AVERAGE, BEFORE, INITIAL, START, UNIFORM, Geometric, Past, State, Who
from equipoise.play.world import World


class Players(Protocol):
    """parameters   names of its fields that are the method's parameters."""

    @property
    def parameters(self) -> tuple[str, ...]: ...

    def write(self, world: World, state: State) -> Rows: ...

    def writing(self, samples: int) -> Players:
        """The same players, writing so many responses per prompt. Raises ValueError where they write none."""
        ...

    def describe(self) -> str: ...


def name_of(who: Who) -> str:
    """A policy's name in a sentence."""
    if isinstance(who, Geometric):
        return "a mixture of two policies"
    if isinstance(who, Past):
        return "a past iterate, drawn for each prompt"
    names = {
        START: "the policy itself",
        BEFORE: "the previous iterate",
        INITIAL: "the reference",
        AVERAGE: "the moving average",
        UNIFORM: "nobody: every response alike",
    }
    return names.get(who, who)
