"""Means over seeds with their 95 % intervals, as figures and as text."""

from __future__ import annotations

from typing import NamedTuple

from equipoise.claims.claim import Array, interval


class Mean(NamedTuple):
    """A mean over independent seeds and its 95 % t-interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def mean_of(values: Array) -> Mean:
    """Of values [seeds]; of the difference of two arrays of the same seeds, the paired interval."""
    mean, low, high = interval(values[:, None])
    return Mean(float(mean[0]), float(low[0]), float(high[0]))
