"""Hidden states to token and response log-probs: the sole owner of shift, mask, sum, chunking.

The logits of N scored tokens over V words are the largest tensor of a training step. Tiles of token_chunk x
vocab_chunk are formed and reduced (`core.chunked_softmax`); if they are small in
total they are kept for the backward, else recomputed there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from equipoise.core.chunked_softmax import Tiling, TokenLogps, product, slices, wide_type
from equipoise.core.dims import Head, Hidden, PerToken, TokenIds
from equipoise.core.divergence import kl

Index: TypeAlias = Int[Tensor, "N"]
PerResponse: TypeAlias = Float[Tensor, "responses"]
PerWord: TypeAlias = Float[Tensor, "V"]


class TokenPositions(NamedTuple):
    """Positions of the N scored tokens in a batch of rows [R, T], in row-major order.

    row        [N] the row of the token.
    predictor  [N] the position whose hidden state predicts it.
    target     [N] its own position.

    With hidden states h [R, T, D] and tokens [R, T]:
    `token_logps(h[s.row, s.predictor], head, tokens[s.row, s.target])`.
    """

    row: Index
    predictor: Index
    target: Index


class ResponseLogps(NamedTuple):
    """Log-probs of `count` responses: logp_sum [count] in nats, length [count] in tokens, both float64."""

    logp_sum: PerResponse
    length: PerResponse


def scored_positions(
    scored: Bool[Tensor, "R T"], previous: Int[Tensor, "R T"] | None = None
) -> TokenPositions:
    """The next-token shift: a token is predicted from the hidden state of the token before it.

    scored     [R, T] True on the tokens that are scored: the response with its end-of-sequence token.
    previous   [R, T] position in the row of the token that precedes each token in its own sequence, -1 where
               a sequence starts. None means t - 1: one sequence per row, or sequences packed end to end.
               Responses that share a prompt in one row all refer to the last token of that prompt.

    Raises ValueError if a row has no scored token, or a scored token starts its sequence.
    """
    empty = (~scored.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"rows {empty[:8]} have no scored token: a response needs at least one")
    row, target = scored.nonzero(as_tuple=True)
    predictor = target - 1 if previous is None else previous[row, target].long()
    orphans = row[predictor < 0].tolist()
    if orphans:
        raise ValueError(
            f"rows {orphans[:8]} score the first token of a sequence, which no hidden state predicts; "
            "score response tokens only"
        )
    return TokenPositions(row, predictor, target)


def token_logps(
    hidden: Hidden,
    head: Head,
    targets: TokenIds,
    *,
    bias: PerWord | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    token_chunk: int = 1024,
    vocab_chunk: int | None = None,
    keep: int = 2**26,
) -> PerToken:
    """Token log-probs log softmax(z)[target] of N tokens, without materialising the N x V logits.

        z = cap(scale * (hidden @ head.T + bias)),    cap(a) = softcap * tanh(a / softcap), or a without it

    hidden       [N, D] hidden states that predict the targets; see `scored_positions`.
    head         [V, D] output embedding, tied to the input embedding or not.
    targets      [N] token ids in [0, V).
    bias         [V] or None.
    softcap      bound on |z| (Gemma-2), > 0; None for none.
    scale        multiplies the raw logits (Cohere's `logit_scale`, one over Granite's `logits_scaling`).
    token_chunk, vocab_chunk   size of the largest tile of logits. A vocab_chunk of None is 2,048 on a CPU, where
                 wider products are slower, else 16,384.
    keep         N * V up to which tiles are kept for the backward, which then skips the recomputation; 2**26 are
                 256 MiB in float32. Capped logits are never kept.

    Returns [N] in float64 if hidden or head is, else in float32: half-precision inputs are accumulated
    in float32. Differentiable once in hidden, head and bias; work and memory are spent only on those
    that require a gradient. If only `hidden` does (a frozen head), its gradient is computed in the forward,
    which saves the second pass over the logits. On CUDA the tiles of d loss/d logits are rounded to the half
    type of the head before they multiply it, as in a plain half-precision head.

    Raises ValueError for shapes that disagree, targets out of range, a chunk below 1 or softcap <= 0.
    """
    _check(hidden, head, targets, bias)
    if vocab_chunk is None:
        vocab_chunk = 2048 if hidden.device.type == "cpu" else 16384
    tiling = Tiling(softcap=softcap, scale=scale, token_chunk=token_chunk, vocab_chunk=vocab_chunk, keep=keep)
    train_head = head.requires_grad or (bias is not None and bias.requires_grad)
    form_now = torch.is_grad_enabled() and hidden.requires_grad and not train_head
    apply: Callable[..., Tensor] = TokenLogps.apply
    return apply(hidden, head, bias, targets.long(), tiling, form_now)


def token_logps_from_logits(logits: Float[Tensor, "N V"], targets: TokenIds) -> PerToken:
    """log softmax(logits)[target], for models with a nonlinear head; the logits [N, V] are materialised.

    Returns [N] in float64 for float64 logits, else in float32; differentiable. Raises ValueError for shapes
    that disagree or targets outside the vocabulary.
    """
    _check_targets(targets, logits.shape)
    logits = logits.to(wide_type(logits))
    return logits.gather(1, targets.long()[:, None]).squeeze(1) - logits.logsumexp(dim=1)


def token_divergences(
    hidden: Hidden,
    head: Head,
    other: Float[Tensor, "N E"],
    other_head: Float[Tensor, "V E"],
    *,
    bias: PerWord | None = None,
    other_bias: PerWord | None = None,
    token_chunk: int = 256,
) -> PerToken:
    """KL(q || p) between two next-token distributions at N positions, without materialising the N x V logits.

        p = softmax(hidden @ head.T + bias),    q = softmax(other @ other_head.T + other_bias), constant

    hidden, head   [N, D], [V, D] of the policy, which receives the gradient; `other` of a frozen model, of any
                   width E.
    token_chunk    positions with logits in memory at a time; recomputed in the backward.

    Returns [N] in nats, in float64 if any input is, else in float32. Raises ValueError for shapes that disagree.
    """
    for states, words in ((hidden, head), (other, other_head)):
        if states.shape[0] != len(hidden) or words.shape != (len(head), states.shape[1]):
            raise ValueError(
                f"hidden {tuple(states.shape)} and head {tuple(words.shape)} must be [N, D] and [V, D], with "
                f"N = {len(hidden)} and V = {len(head)}"
            )
    wide = wide_type(hidden, head, other, other_head)

    def tile(places: Tensor, words: Tensor, shift: Tensor | None, frozen: Tensor) -> Tensor:
        with torch.autocast(places.device.type, enabled=False):
            z, w = product(places, words.T, wide), product(frozen, other_head.detach().T, wide)
            z, w = z if shift is None else z + shift, w if other_bias is None else w + other_bias.detach()
            return divergence_of_logits(z, w)

    parts = [
        checkpoint(tile, hidden[rows], head, bias, other[rows].detach(), use_reentrant=False)
        for rows in slices(len(hidden), token_chunk)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=wide)


@torch.no_grad()
def token_collisions(
    hidden: Hidden, head: Head, *, bias: PerWord | None = None, token_chunk: int = 256
) -> PerToken:
    """Log collision probability log sum_v pi(v)^2 of the next-token distribution at N positions (two draws are equal).

        pi = softmax(z),  z = hidden @ head.T + bias;    log sum_v pi(v)^2 = logsumexp(2 z) - 2 logsumexp(z)

    hidden, head, bias   as in `token_logps`; no gradient flows.    token_chunk   positions with logits in memory.

    Returns [N], in [-log V, 0], in float64 if any input is, else in float32.
    """
    wide = wide_type(hidden, head)
    with torch.autocast(hidden.device.type, enabled=False):
        tiles = (product(hidden[rows], head.T, wide) for rows in slices(len(hidden), token_chunk))
        parts = [collisions_of_logits(z if bias is None else z + bias) for z in tiles]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=wide)


@torch.no_grad()
def collisions_of_logits(logits: Float[Tensor, "N V"]) -> PerToken:
    """Log collision probability log sum_v pi(v)^2 of pi = softmax(logits); see `token_collisions`."""
    z = logits.to(wide_type(logits))
    return (2 * z).logsumexp(dim=1) - 2 * z.logsumexp(dim=1)


def divergence_of_logits(logits: Float[Tensor, "N V"], other: Float[Tensor, "N V"]) -> PerToken:
    """KL(q || p) of p = softmax(logits) from the frozen q = softmax(other); see `token_divergences`."""
    wide = wide_type(logits, other)
    return kl(other.detach().to(wide).log_softmax(dim=1), logits.to(wide).log_softmax(dim=1))


def response_logps(token_logps: PerToken, segment: Index, count: int) -> ResponseLogps:
    """Response log-probs: sums of token log-probs.

        logp_sum[r] = sum_{i: segment[i] = r} token_logps[i],    length[r] = #{i: segment[i] = r}

    segment   [N] response each token belongs to, in [0, count).

    Sums are always float64: objectives read differences of two sums of hundreds of nats, and a
    float32 sum has lost the significant digits. Gradients flow back in the input's type. Raises ValueError if
    a segment is out of range or a response has no token.
    """
    if segment.shape != token_logps.shape:
        raise ValueError(f"segment has shape {tuple(segment.shape)}, token_logps {tuple(token_logps.shape)}")
    if segment.numel() and not 0 <= int(segment.min()) <= int(segment.max()) < count:
        raise ValueError(
            f"segment must lie in [0, {count}), got {int(segment.min())} to {int(segment.max())}"
        )
    wide = token_logps.double()
    length = wide.new_zeros(count).index_add(0, segment, torch.ones_like(wide))
    if not bool((length > 0).all()):
        raise ValueError(f"responses {(length == 0).nonzero().flatten().tolist()[:8]} have no scored token")
    return ResponseLogps(wide.new_zeros(count).index_add(0, segment, wide), length)


def by_response(values: Tensor, segment: Index, count: int) -> tuple[Tensor, Bool[Tensor, "responses T"]]:
    """Scatter per-token values into a padded layout [responses, T]: (values, mask, True at tokens).

    values    [N, ...] in the order of the tokens; a response's tokens are consecutive, as `scored_positions` gives.
    segment   [N] response each token belongs to, in [0, count), not decreasing.

    T is the longest response; padding is 0. Differentiable: the sum over T is that of
    `response_logps`. Log-probs (one dimension) become float64, anything else keeps its type. Raises ValueError if
    the segments decrease or a response has no token.
    """
    if segment.shape != values.shape[:1]:
        raise ValueError(f"segment has shape {tuple(segment.shape)}, values {tuple(values.shape)}")
    if bool((segment.diff() < 0).any()):
        raise ValueError("the tokens of a response must be consecutive: segment decreases")
    length = torch.bincount(segment, minlength=count)
    if len(length) != count or not bool((length > 0).all()):
        raise ValueError(f"each of {count} responses needs a token, the lengths are {length.tolist()[:8]}")
    place = torch.arange(len(segment), device=segment.device) - (length.cumsum(0) - length)[segment]
    wide = values.double() if values.ndim == 1 else values
    laid = wide.new_zeros(count, int(length.max()), *values.shape[1:]).index_put((segment, place), wide)
    return laid, torch.arange(laid.shape[1], device=length.device) < length[:, None]


def _check_targets(targets: Tensor, logits_shape: torch.Size) -> None:
    count, vocabulary = logits_shape
    if targets.shape != (count,):
        raise ValueError(f"targets has shape {tuple(targets.shape)}, expected ({count},)")
    if count and not 0 <= int(targets.min()) <= int(targets.max()) < vocabulary:
        raise ValueError(
            f"targets must lie in [0, {vocabulary}), got {int(targets.min())} to {int(targets.max())}; "
            "select scored tokens before calling, there is no ignore index"
        )


def _check(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    if hidden.ndim != 2 or head.ndim != 2 or hidden.shape[1] != head.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} and head {tuple(head.shape)} must be [N, D] and [V, D]"
        )
    if bias is not None and bias.shape != head.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}, expected {tuple(head.shape[:1])}")
    _check_targets(targets, torch.Size((hidden.shape[0], head.shape[0])))
