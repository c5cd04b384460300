"""Names that other people chose, as labels."""

from __future__ import annotations


def label(text: str, limit: int = 28) -> str:
    """Untrusted text as a short one-line label."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
