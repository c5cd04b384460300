"""What every choice of a method says: its parameters, what it needs of the data and of the world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from equipoise.play.needs import NOTHING, Needs


class Component(Protocol):
    """One choice on one axis of a method: players, a pairing or an update.

    A choice that is built on another one holds it as its field `base`; the parameters, needs and capabilities of both
    count.
    """

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the fields that are parameters of the method."""
        return ()

    @property
    def needs(self) -> Needs:
        """Recorded data and oracle without which it cannot be played."""
        return NOTHING

    @property
    def capabilities(self) -> tuple[type, ...]:
        """Protocols of `play.capabilities` that the world must have in addition to `World`."""
        return ()

    def describe(self) -> str:
        """What it does, in a few words."""
        ...


def parts(choice: Any) -> Iterator[Any]:
    """A choice and those it is built on, outermost first."""
    while choice is not None:
        yield choice
        choice = getattr(choice, "base", None)
