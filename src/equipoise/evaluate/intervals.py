"""Confidence intervals for means, as `core.intervals` computes them."""

from __future__ import annotations

from equipoise.core.intervals import Interval, clustered_mean, clustered_share, wilson

__all__ = ["Interval", "clustered_mean", "clustered_share", "wilson"]
