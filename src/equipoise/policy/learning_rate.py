"""Learning rate schedules of an optimizer: linear warm-up, then constant, linear or cosine decay to 0."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["constant", "linear", "cosine"]


def rate(step: int, steps: int, *, peak: float, schedule: Schedule, warmup: float) -> float:
    """Learning rate at optimizer step `step` (0-based) of `steps`.

        peak (step + 1) / w                                        for step < w = ceil(warmup steps)
        peak, peak (1 - t), peak (1 + cos(pi t)) / 2               after it, t = (step - w) / (steps - w)

    warmup   share of the steps that rise to the peak; 0: none
    """
    rising = max(1, math.ceil(warmup * steps)) if warmup else 0
    if step < rising:
        return peak * (step + 1) / rising
    if schedule == "constant":
        return peak
    done = (step - rising) / max(1, steps - rising)
    return peak * ((1 - done) if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))
