"""Confidence intervals for means, as `core.intervals` computes them."""

from __future__ import annotations

from equipoise.core.intervals import (
    Clusters,
    Interval,
    Rows,
    bootstrap,
    clustered_mean,
    clustered_share,
    jackknife,
    wilson,
)

__all__ = [
    "Clusters",
    "Interval",
    "Rows",
    "bootstrap",
    "clustered_mean",
    "clustered_share",
    "jackknife",
    "wilson",
]
