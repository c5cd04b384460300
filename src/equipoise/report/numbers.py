"""Numbers for a reader: shares in per cent, three significant digits, durations."""

from __future__ import annotations

import math

NOT_FINITE = "not finite"


def percent(share: float) -> str:
    """0.7123 -> "71.2 %"; shares that would round to 0 or 100 keep a sign that they are not."""
    if not math.isfinite(value := 100 * share):
        return NOT_FINITE
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 < share < 1:
        return "> 99.9 %"
    return f"{value:.1f} %"


def plain(value: float) -> str:
    """At least three significant digits, thousands separated, a true minus: 1234567 -> "1,234,567"."""
    if not math.isfinite(value):
        return NOT_FINITE
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e9:
        return f"{value:.2e}".replace("-", "−")
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as a reader says them: "4.2 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
