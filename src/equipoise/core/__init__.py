"""The pure middle: tensors in, tensors out. No I/O, no model, no configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.core.scores import Losses, Scores

__all__ = ["Losses", "Scores"]


def __getattr__(name: str) -> Any:
    """The records of scores when they are asked for: what reads intervals alone imports no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from equipoise.core import scores

    return getattr(scores, name)
