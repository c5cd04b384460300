"""Derangement of rows across prompts: mismatched pairs for KTO's KL estimate."""

from __future__ import annotations

import numpy as np


def derangement(groups: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """A permutation [N] that maps each row to a row of another group; random, by the uniforms [N].

    Rows are sorted by group, groups and their rows in random order, and rotated by the size of the largest group, so no
    row is mapped into its own group unless one has more than half of all rows. A single row is mapped to itself.
    """
    count = len(groups)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = np.full(len(sizes), 2.0)
    np.minimum.at(drawn, group, uniforms)  # groups are ordered by their smallest draw
    order = np.lexsort((uniforms, drawn[group]))
    shift = min(int(sizes.max()), max(count // 2, 1)) if len(sizes) > 1 else 1
    met = np.empty(count, dtype=np.intp)
    met[order] = np.roll(order, -shift)
    return met
