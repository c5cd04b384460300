"""Cross-validation folds of whole prompts: what one prompt has in common is never on both sides of a split."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np


def folds_of(groups: Sequence[Hashable], count: int, seed: int | Sequence[int]) -> Any:
    """Fold of each row [N], 0 to count - 1: prompts dealt at random into folds of nearly equal numbers of prompts.

    groups   [N] the prompt of each row. They are shuffled in the order in which they come first.
    """
    names = list(dict.fromkeys(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[index]: place % count for place, index in enumerate(order)}
    return np.array([fold[group] for group in groups])
