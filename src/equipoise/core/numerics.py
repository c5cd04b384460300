"""Numerically stable elementary functions: no overflow, no cancellation."""

from __future__ import annotations

from math import log
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Real: TypeAlias = Float[Tensor, "..."]

NEAREST_TO_ONE = -1e-6  # log-probs above this are treated as this value
LARGEST_EXPONENT = 80.0  # e^80 is near the end of float32 and bfloat16


def log1mexp(a: Real) -> Real:
    """log(1 - e^a) for a < 0: the log-prob of the complement of an event with log-prob a.

    Two forms meet at a = -log 2: above it 1 - e^a would cancel, below it e^a would be lost in 1 - e^a. From
    a = -1e-6 on the value is that at -1e-6, without a gradient: log-probs of near certainty round to 0, where the
    function has a pole.

    Source: Maechler 2012, "Accurately computing log(1 - exp(-|a|))".
    """
    a = a.clamp(max=NEAREST_TO_ONE)
    near = a > -log(2)
    # each branch gets a harmless argument where the other is selected, so that no gradient is 0 * inf
    above, below = a.where(near, -1.0), a.where(~near, -1.0)
    return torch.where(near, torch.log(-torch.expm1(above)), torch.log1p(-torch.exp(below)))


def log_odds(logp: Real) -> Real:
    """Log-odds log( p / (1 - p) ) of a probability p = e^logp, logp < 0; flat above -1e-6 like `log1mexp`."""
    return logp.clamp(max=NEAREST_TO_ONE) - log1mexp(logp)


def bounded_exp(a: Real) -> Real:
    """e^a with the exponent clamped at 80: beyond it the value is constant and the gradient 0, instead of infinite."""
    return torch.exp(a.clamp(max=LARGEST_EXPONENT))
