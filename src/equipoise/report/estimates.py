"""Estimates with their intervals as text: shares in per cent, and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.report.numbers import percent, plain

NOTHING = "–"


def share(found: Mapping[str, Any] | float | None) -> str:
    """A share with its interval (`core.intervals.Interval`), or without: "62.5 % (50.0–70.0)"."""
    if found is None:
        return NOTHING
    if not isinstance(found, Mapping):
        return percent(found)
    if found["low"] is None or found["high"] is None:
        return percent(found["value"])
    return f"{percent(found['value'])} ({100 * found['low']:.1f}–{100 * found['high']:.1f})"


def number(found: Mapping[str, Any] | float | None, digits: int | None = None) -> str:
    """A number with its interval, or without: "0.12 (−0.03 to 0.27)"; an end that does not exist is open.

    digits   after the point; None: three significant ones
    """
    if found is None:
        return NOTHING
    if not isinstance(found, Mapping):
        return _written(found, digits)
    value = _written(found["value"], digits)
    ends = (found["low"], found["high"])
    if ends == (None, None):
        return value
    low, high = ("…" if end is None else _written(end, digits) for end in ends)
    return f"{value} ({low} to {high})"


def _written(value: float, digits: int | None) -> str:
    return plain(value) if digits is None else f"{value:.{digits}f}".replace("-", "−")
