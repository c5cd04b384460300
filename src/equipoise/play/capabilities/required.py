"""Required capabilities: a world typed by one, or the refusal of a world that lacks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

C = TypeVar("C")


def needing(world: Any, capability: Callable[..., C]) -> C:
    """The world, typed as one that has the capability. Raises ValueError for a world that lacks it.

    capability    a protocol's class. It is annotated by what it makes, because `type[C]` admits no abstract class.
    """
    protocol = cast(type[C], capability)
    if not isinstance(world, protocol):
        raise ValueError(f"this needs {_first_line(protocol)}, {_lacking(type(world))}")
    return world


def check(name: str, capabilities: tuple[type, ...], world: type) -> None:
    """Raise ValueError, in one sentence, if a world lacks a capability that the named method needs."""
    for capability in capabilities:
        if not issubclass(world, capability):
            raise ValueError(f"{name} needs {_first_line(capability)}, {_lacking(world)}")


def _first_line(capability: type) -> str:
    return (capability.__doc__ or capability.__name__).splitlines()[0].rstrip(".")


def _lacking(world: type) -> str:
    return f"which {getattr(world, 'kind', world.__name__)} does not offer"
