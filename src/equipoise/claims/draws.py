"""Random numbers of a claim's program: every seed is asked for here, so that one offset moves all of them.

A program takes its numbers from `numpy_draws`, `torch_draws` or, where it hands a seed on, `moved_seed`. Under
`offset(0)`, and outside of it, they are the seeds that the program names. Under `offset(k)` each is k STRIDE
further: no program counts its own seeds that far, so that the draws of two offsets have no seed in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch

STRIDE = 1_000_003


@dataclass
class Drawn:
    """How far the seeds are moved, and how many have been asked for."""

    offset: int = 0
    asked: int = 0


_CURRENT: ContextVar[Drawn | None] = ContextVar("offset of the seeds of a claim", default=None)


@contextmanager
def offset(k: int) -> Iterator[Drawn]:
    """Move all seeds asked for inside by k STRIDE. Yields a record that counts them: a program without is exact.

    Raises ValueError for a negative k, whose seeds numpy would refuse in the middle of a run.
    """
    if k < 0:
        raise ValueError(f"a seed offset counts from 0, the seeds as shipped: {k} is negative")
    current = Drawn(k)
    token = _CURRENT.set(current)
    try:
        yield current
    finally:
        _CURRENT.reset(token)


def moved_seed(seed: int) -> int:
    """The seed under the current offset."""
    current = _CURRENT.get()
    if current is None:
        return seed
    current.asked += 1
    return seed + STRIDE * current.offset


def numpy_draws(seed: int | Sequence[int]) -> np.random.Generator:
    """numpy's generator of that seed, or of several numbers of which the first is moved."""
    if isinstance(seed, Sequence):
        return np.random.default_rng([moved_seed(seed[0]), *seed[1:]])
    return np.random.default_rng(moved_seed(seed))


def torch_draws(seed: int) -> torch.Generator:
    """A generator of torch's own, apart from its global one."""
    return torch.Generator().manual_seed(moved_seed(seed))
