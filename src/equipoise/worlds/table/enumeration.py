"""Rows of an exact game: a sample is every response with its probability, and a mean over samples a sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from equipoise.games.expectation import Comparisons
from equipoise.play.rows import Rows


def every_response(rows: Rows, share: np.ndarray, by: str) -> Rows:
    """Each row once for every response that may be written, weighted by its probability `share` [N, A]."""
    which, action = share.nonzero()
    expanded = rows.take(which).append(action[:, None], by)
    return replace(expanded, weight=expanded.weight * share[which, action])


def comparisons(rows: Rows) -> Comparisons:
    """The rows as exact sums read them."""
    return Comparisons(
        torch.from_numpy(rows.prompts),
        torch.from_numpy(rows.responses),
        torch.from_numpy(rows.weight),
        None if rows.prob is None else torch.from_numpy(rows.prob),
        # a response is one token: what is known of its tokens is known of it
        None if rows.reward is None else torch.from_numpy(rows.reward.reshape(rows.responses.shape)),
    )
