"""What a pairing is: which responses are compared, and how a verdict becomes a label or a reward."""

from __future__ import annotations

from typing import Protocol

from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


class Pairing(Protocol):
    """parameters   names of its fields that are the method's parameters."""

    @property
    def parameters(self) -> tuple[str, ...]: ...

    def check(self, samples: int) -> None:
        """Raise ValueError if `samples` responses per prompt cannot be paired this way."""
        ...

    def form(self, world: World, state: State, rows: Rows) -> Rows: ...

    def describe(self) -> str: ...
