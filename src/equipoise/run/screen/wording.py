"""Words for paces and times left."""

from __future__ import annotations


def pace(rate: float) -> str:
    """Units per second, or seconds per unit where that says more."""
    return f"{1 / rate:.1f} s each" if 0 < rate < 0.5 else f"{rate:.1f}/s"


def left(count: float, rate: float) -> str:
    """Time that `count` units take, as h:mm:ss."""
    return clock(count / rate) if rate > 0 else "?"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
