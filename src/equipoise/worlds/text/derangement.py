"""Rows that meet a row of another prompt."""

from __future__ import annotations

import numpy as np


def derangement(groups: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """For each row the place of a row of another group, every place once; drawn by the uniforms, [N] each.

    Rows are laid out group by group, the groups and their rows in random order, and turned by the size of the largest
    group, so no row meets its own group unless one has more than half of all rows. A single row meets itself.
    """
    count = len(groups)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = np.full(len(sizes), 2.0)
    np.minimum.at(drawn, group, uniforms)  # a group's place is that of its smallest number
    order = np.lexsort((uniforms, drawn[group]))
    shift = min(int(sizes.max()), max(count // 2, 1)) if len(sizes) > 1 else 1
    met = np.empty(count, dtype=np.intp)
    met[order] = np.roll(order, -shift)
    return met
