"""Values that several functions take, checked where they are given."""

from __future__ import annotations

from typing import Any, Literal


def wrapped(wrap: str) -> Literal["none", "chat"]:
    """The value of `wrap`. Raises ValueError for an unknown one."""
    if wrap == "none":
        return "none"
    if wrap == "chat":
        return "chat"
    raise ValueError(f"--wrap must be none or chat, got {wrap!r}")


def placed(precision: str) -> dict[str, Any]:
    """Settings of loading a writer. Raises ValueError for an unknown precision."""
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"--precision must be fp32 or bf16, got {precision!r}")
    return {"precision": precision}


def check_count(count: int) -> None:
    """Raises ValueError for a number of answers to each prompt that is below 1."""
    if count < 1:
        raise ValueError(f"count, the answers to each prompt, must be at least 1, got {count}")
