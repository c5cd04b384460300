"""Enumeration of exact games: sampling becomes every response, weighted by its probability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from equipoise.games.expectation import Comparisons
from equipoise.play.decoding import AS_SET, Decode
from equipoise.play.rows import Rows
from equipoise.play.state import Floats


def every_response(rows: Rows, share: np.ndarray, by: str) -> Rows:
    """Expand each row into one per response with positive probability, weighted by that probability, `share` [N, A]."""
    which, action = share.nonzero()
    expanded = rows.take(which).append(action[:, None], by)
    return replace(expanded, weight=expanded.weight * share[which, action])


def decoded(probs: Floats, decode: Decode) -> Floats:
    """Distribution [..., A] after temperature, top-k and top-p, in this order; ties at a cutoff are all kept.

    p^(1/temperature), normalised;    temperature 0: uniform over the most likely responses
    """
    if decode.temperature not in (None, 1.0):
        likeliest = probs / probs.max(axis=-1, keepdims=True)
        probs = (likeliest == 1.0) * 1.0 if decode.temperature == 0 else likeliest ** (1 / decode.temperature)
    if decode.top_k and decode.top_k < probs.shape[-1]:
        probs = probs * (probs >= -np.sort(-probs, axis=-1)[..., [decode.top_k - 1]])
    if decode.top_p is not None and decode.top_p < 1:
        ordered = -np.sort(-probs / probs.sum(axis=-1, keepdims=True), axis=-1)
        reached = (ordered.cumsum(axis=-1) < decode.top_p).sum(axis=-1, keepdims=True)
        least = np.take_along_axis(ordered, np.minimum(reached, probs.shape[-1] - 1), axis=-1)
        probs = probs * (probs / probs.sum(axis=-1, keepdims=True) >= least)
    return probs if decode == AS_SET else probs / probs.sum(axis=-1, keepdims=True)


def comparisons(rows: Rows) -> Comparisons:
    """The rows in the form that exact expectations read."""
    return Comparisons(
        torch.from_numpy(rows.prompts),
        torch.from_numpy(rows.responses),
        torch.from_numpy(rows.weight),
        None if rows.prob is None else torch.from_numpy(rows.prob),
        # a response is one token: token rewards are response rewards
        None if rows.reward is None else torch.from_numpy(rows.reward.reshape(rows.responses.shape)),
    )
