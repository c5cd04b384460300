"""Components of a method: what every choice on an axis declares (parameters, data needs, capabilities)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from equipoise.play.needs import NOTHING, Needs


class Component(Protocol):
    """One choice on one axis of a method: players, a pairing or an update.

    A component that wraps another one holds it as its field `base`; the parameters, needs and capabilities of both
    apply.
    """

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the fields that are parameters of the method."""
        return ()

    @property
    def needs(self) -> Needs:
        """Required recorded data and oracle."""
        return NOTHING

    @property
    def capabilities(self) -> tuple[type, ...]:
        """Protocols of `play.capabilities` that the world must have in addition to `World`."""
        return ()

    @property
    def models(self) -> tuple[str, ...]:
        """Folders or hub names of models of its own that it reads, apart from policies and the oracle."""
        return ()

    @property
    def mixes(self) -> bool:
        """Whether a response is sampled from a mixture of two policies, token by token."""
        return False

    def describe(self) -> str:
        """A short description of what it does."""
        ...


def parts(choice: Any) -> Iterator[Any]:
    """A component and those that it wraps, outermost first."""
    while choice is not None:
        yield choice
        choice = getattr(choice, "base", None)
