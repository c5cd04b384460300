"""Inverse-CDF sampling of tokens, from one uniform number per token.

A response's uniforms depend on the seed and on which prompt and sample it is, never on its batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equipoise.policy.protocol import Decoding

BLOCK = 128  # tokens whose probabilities are summed before the search for one of them


def uniforms(seed: int, prompt: int, index: int, count: int) -> np.ndarray:
    """`count` uniform numbers in [0, 1) of a response's own stream, addressed by seed, prompt and sample index."""
    # explicit uint64: numpy turns a list with one large integer into floats, and streams would collide
    key = np.array([seed & (2**64 - 1), (prompt << 32) | index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def sample_tokens(
    logits: Tensor, uniform: Tensor, decoding: Decoding, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sample tokens [R] from logits [R, V] by uniforms [R]; also their log-probs [R] in float64.

    among   [R, V] the tokens to sample from, at least one in each row; None: those that top-k and top-p of the logits
            themselves keep.

    The log-prob is that of the untruncated distribution at temperature 1.
    """
    logits = logits.float()
    top = logits.amax(-1, keepdim=True)
    weights = (logits - top).exp_()
    total = weights.sum(-1, keepdim=True)
    kept = logits if among is None else logits.masked_fill(~among, -torch.inf)
    if decoding.temperature == 0:
        token = kept.argmax(-1, keepdim=True)
    elif among is not None:
        highest = kept.amax(
            -1, keepdim=True
        )  # of the tokens among which one is sampled: its weight is 1, never 0
        token = _search(((kept - highest) / decoding.temperature).exp_(), uniform)
    elif decoding.temperature == 1:
        token = _search(_truncated(weights, decoding), uniform)
    else:
        token = _search(_truncated(((logits - top) / decoding.temperature).exp_(), decoding), uniform)
    logp = (logits.gather(1, token) - top).double() - total.double().log()
    return token[:, 0], logp[:, 0]


def nucleus(logits: Tensor, decoding: Decoding) -> Tensor:
    """[R, V] which tokens top-k and top-p keep of logits [R, V] at the temperature (1 where decoding is greedy)."""
    scaled = logits.float() / (decoding.temperature or 1.0)
    return _truncated((scaled - scaled.amax(-1, keepdim=True)).exp_(), decoding) > 0


def _truncated(weights: Tensor, decoding: Decoding) -> Tensor:
    """Top-k and top-p: weights [R, V] (probabilities up to a factor), 0 where they are cut off."""
    if decoding.top_k and decoding.top_k < weights.shape[1]:
        threshold = weights.topk(decoding.top_k, dim=-1).values[:, -1:]
        weights = weights.masked_fill(weights < threshold, 0.0)
    if decoding.top_p < 1:
        ranked, order = weights.double().sort(dim=-1, descending=True)
        ranked /= ranked.sum(-1, keepdim=True)
        # keep tokens until the mass BEFORE them reaches top_p: the first one always stays
        cut = ranked.cumsum(-1) - ranked >= decoding.top_p
        weights = weights.scatter(-1, order, weights.gather(-1, order).masked_fill(cut, 0.0))
    return weights


def _search(weights: Tensor, uniform: Tensor) -> Tensor:
    """Inverse CDF: [R, 1] the first token whose cumulative weight exceeds uniform * total.

    Sums of blocks first, then the one block that contains the token: the vocabulary is read once, and only block sums
    and that block are accumulated in float64. A token of weight 0 is never sampled.
    """
    size = weights.shape[1]
    even = size - size % BLOCK
    sums = weights[:, :even].unflatten(1, (-1, BLOCK)).sum(-1)
    if even < size:
        sums = torch.cat([sums, weights[:, even:].sum(-1, keepdim=True)], 1)
    ends = sums.double().cumsum(-1)
    target = _below(uniform.double()[:, None] * ends[:, -1:], ends[:, -1:])
    block = torch.searchsorted(ends, target, right=True).clamp_(max=ends.shape[1] - 1)  # past it: NaN
    places = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    inside = weights.gather(1, places.clamp(max=size - 1)).double().masked_fill_(places >= size, 0.0)
    inner = inside.cumsum(-1)
    before = ends.gather(1, block) - sums.gather(1, block).double()
    # the block's float32 sum and the sum of its parts differ in the last digits: stay inside
    token = torch.searchsorted(inner, _below((target - before).clamp(min=0), inner[:, -1:]), right=True)
    return (block * BLOCK + token).clamp_(max=size - 1)


def _below(value: Tensor, end: Tensor) -> Tensor:
    return torch.minimum(value, torch.nextafter(end, torch.zeros_like(end)))
