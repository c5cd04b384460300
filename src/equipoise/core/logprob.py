"""Hidden states to token and response log-probs: the sole owner of shift, mask, sum | mean, chunking.

The logits of N scored tokens over V words are the largest tensor of a training step. Here tiles of token_chunk x
vocab_chunk are formed and reduced; only where all of them together are small are they kept for the backward, else they
are formed again there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from equipoise.core.dims import Head, Hidden, PerToken, TokenIds
from equipoise.core.divergence import kl

Index: TypeAlias = Int[Tensor, "N"]
PerResponse: TypeAlias = Float[Tensor, "responses"]
PerWord: TypeAlias = Float[Tensor, "V"]


class Scored(NamedTuple):
    """Where the N scored tokens of a batch of rows [R, T] are; entries are in row-major order.

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

    @property
    def logp_mean(self) -> PerResponse:
        """Mean token log-prob of each response, logp_sum / length."""
        return self.logp_sum / self.length


def scored_positions(scored: Bool[Tensor, "R T"], previous: Int[Tensor, "R T"] | None = None) -> Scored:
    """The shift, in one place: a token is predicted from the hidden state of the token before it.

    scored     [R, T] True on the tokens that are scored: the response with its end-of-sequence token.
    previous   [R, T] position in the row of the token that precedes each token in its own sequence, -1 where
               a sequence starts. None means t - 1: one sequence per row, or sequences laid end to end.
               Responses that share a prompt in one row all name the last token of that prompt.

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
    return Scored(row, predictor, target)


def token_logps(
    hidden: Hidden,
    head: Head,
    targets: TokenIds,
    *,
    bias: PerWord | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    token_chunk: int = 1024,
    vocab_chunk: int | None = 16384,
    keep: int = 2**26,
) -> PerToken:
    """log softmax(z)[target] for N tokens, without ever holding their N x V logits.

        z = cap(scale * (hidden @ head.T + bias)),    cap(a) = softcap * tanh(a / softcap), or a without it

    hidden       [N, D] hidden states that predict the targets; see `scored_positions`.
    head         [V, D] output embedding, tied to the input embedding or not.
    targets      [N] token ids in [0, V).
    bias         [V] or None.
    softcap      bound on |z| (Gemma-2), > 0; None for none.
    scale        multiplies the raw logits (Cohere's `logit_scale`, one over Granite's `logits_scaling`).
    token_chunk, vocab_chunk   size of the largest tile of logits; vocab_chunk None = the whole vocabulary.
    keep         N * V up to which tiles are kept for the backward, which then need not multiply again; 2**26 are
                 256 MiB in float32. Capped logits are never kept.

    Returns [N] in float64 if hidden or head is, else in float32: half-precision inputs are multiplied and
    summed in float32. Differentiable once in hidden, head and bias; work and memory are spent only on those
    that require a gradient. If only `hidden` does (a frozen head), its gradient is formed in the forward,
    which saves the second pass over the logits. On CUDA the tiles of d loss/d logits are rounded to the half
    type of the head before they multiply it, as in a plain half-precision head.

    Raises ValueError for shapes that disagree, targets out of range, a chunk below 1 or softcap <= 0.
    """
    _check(hidden, head, targets, bias)
    tiling = _Tiling(
        softcap=softcap, scale=scale, token_chunk=token_chunk, vocab_chunk=vocab_chunk, keep=keep
    )
    train_head = head.requires_grad or (bias is not None and bias.requires_grad)
    form_now = torch.is_grad_enabled() and hidden.requires_grad and not train_head
    return _TokenLogps.apply(hidden, head, bias, targets.long(), tiling, form_now)


def token_logps_from_logits(logits: Float[Tensor, "N V"], targets: TokenIds) -> PerToken:
    """log softmax(logits)[target], for models whose head is not a linear map; logits [N, V] are held whole.

    Returns [N] in float64 for float64 logits, else in float32; differentiable. Raises ValueError for shapes
    that disagree or targets outside the vocabulary.
    """
    _check_targets(targets, logits.shape)
    logits = logits.to(_wide(logits))
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
    """KL(q || p) of two laws of the next token at N places, without ever holding their N x V logits.

        p = softmax(hidden @ head.T + bias),    q = softmax(other @ other_head.T + other_bias), constant

    hidden, head   [N, D], [V, D] of the policy, which the gradient flows into; `other` of a frozen model whose width
                   E may differ.
    token_chunk    places whose logits exist at a time, under both; formed again in the backward.

    Returns [N] in nats, in float64 if any input is, else in float32. Raises ValueError for shapes that disagree.
    """
    for states, words in ((hidden, head), (other, other_head)):
        if states.shape[0] != len(hidden) or words.shape != (len(head), states.shape[1]):
            raise ValueError(
                f"hidden {tuple(states.shape)} and head {tuple(words.shape)} must be [N, D] and [V, D], with "
                f"N = {len(hidden)} and V = {len(head)}"
            )
    wide = _wide(hidden, head, other, other_head)

    def tile(places: Tensor, words: Tensor, shift: Tensor | None, frozen: Tensor) -> Tensor:
        with torch.autocast(places.device.type, enabled=False):
            z, w = _product(places, words.T, wide), _product(frozen, other_head.detach().T, wide)
            z, w = z if shift is None else z + shift, w if other_bias is None else w + other_bias.detach()
            return divergence_of_logits(z, w)

    parts = [
        checkpoint(tile, hidden[rows], head, bias, other[rows].detach(), use_reentrant=False)
        for rows in _slices(len(hidden), token_chunk)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=wide)


def divergence_of_logits(logits: Float[Tensor, "N V"], other: Float[Tensor, "N V"]) -> PerToken:
    """KL(q || p) of p = softmax(logits) from the frozen q = softmax(other); see `token_divergences`."""
    wide = _wide(logits, other)
    return kl(other.detach().to(wide).log_softmax(dim=1), logits.to(wide).log_softmax(dim=1))


def response_logps(token_logps: PerToken, segment: Index, count: int) -> ResponseLogps:
    """Sum the token log-probs of each response.

        logp_sum[r] = sum_{i: segment[i] = r} token_logps[i],    length[r] = #{i: segment[i] = r}

    segment   [N] response each token belongs to, in [0, count).

    Sums are float64 whatever comes in: objectives read differences of two sums of hundreds of nats, and a
    float32 sum has lost the digits that matter. Gradients flow back in the input's type. Raises ValueError if
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
    """What is known of each scored token, laid out response by response: (values, True where a token is).

    values    [N, ...] in the order of the tokens; a response's tokens are consecutive, as `scored_positions` gives.
    segment   [N] response each token belongs to, in [0, count), not decreasing.

    T is the longest response; places without a token are 0. Differentiable: the sum over T is that of
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


def _wide(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _product(a: Tensor, b: Tensor, wide: torch.dtype) -> Tensor:
    """a @ b, accumulated and returned in `wide`; half-precision units are used where they can return it."""
    half = torch.float16 if torch.float16 in (a.dtype, b.dtype) else torch.bfloat16
    if a.is_cuda and wide == torch.float32 and half in (a.dtype, b.dtype):
        return torch.mm(a.to(half), b.to(half), out_dtype=wide)
    return a.to(wide) @ b.to(wide)


@dataclass(frozen=True, kw_only=True)
class _Tiling:
    """How logits are computed, and the tiles in which they are."""

    softcap: float | None
    scale: float
    token_chunk: int
    vocab_chunk: int | None
    keep: int

    def __post_init__(self) -> None:
        if self.token_chunk < 1 or (self.vocab_chunk is not None and self.vocab_chunk < 1):
            raise ValueError(f"chunks must be at least 1, got {self.token_chunk!r} and {self.vocab_chunk!r}")
        if self.softcap is not None and not self.softcap > 0:
            raise ValueError(f"softcap must be positive, got {self.softcap!r}")

    def rows(self, hidden: Tensor) -> Iterator[slice]:
        return _slices(hidden.shape[0], self.token_chunk)

    def words(self, head: Tensor) -> Iterator[slice]:
        return _slices(head.shape[0], self.vocab_chunk or head.shape[0])

    def tiles(self, hidden: Tensor, head: Tensor) -> Iterator[tuple[slice, slice]]:
        return ((words, rows) for words in self.words(head) for rows in self.rows(hidden))

    def logits(self, hidden: Tensor, head: Tensor, bias: Tensor | None, wide: torch.dtype) -> Tensor:
        z = _product(hidden, head.T, wide)
        if bias is not None:
            z += bias
        if self.scale != 1:
            z *= self.scale
        return z if self.softcap is None else z.div_(self.softcap).tanh_().mul_(self.softcap)

    def powers(self, z: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        """e = exp(z - top) [n, W], over z unless it is capped, and e times dz / d(hidden @ head.T + bias)."""
        if self.softcap is None:
            e = z.sub_(top[:, None]).exp_()
            return e, e if self.scale == 1 else e * self.scale
        e = (z - top[:, None]).exp_()
        return e, e * self.slope(z)

    def slope(self, z: Tensor) -> Tensor:
        """dz / d(hidden @ head.T + bias)."""
        flat = torch.full_like(z, self.scale)
        return flat if self.softcap is None else flat.mul_(1 - (z / self.softcap).square())


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(low, min(low + step, count)) for low in range(0, count, max(step, 1)))


def _hits(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Column [n, 1] of each target in a tile of these words, and whether it falls inside [n, 1].

    Columns outside are clamped rather than dropped: dropping would make a GPU wait for the count.
    """
    inside = (targets >= words.start) & (targets < words.stop)
    return (targets - words.start).clamp(0, words.stop - words.start - 1)[:, None], inside[:, None]


class _TokenLogps(torch.autograd.Function):
    """log softmax at the targets: d/da = onehot - softmax, times dz/da of the cap and the scale, a = hidden @ head.T.

    With e = exp(z - top) the softmax is e / exp(lse - top), a number for each row: rows of the small factors of every
    product are scaled instead of rows of logits. Kept for the backward: the inputs and two numbers per token; the
    e's, if they are few; or, when only `hidden` wants a gradient, that gradient itself ([N, D], the size of `hidden`).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        tiling: _Tiling,
        form_now: bool,
    ) -> Tensor:
        wide = _wide(hidden, head)
        # the smallest finite number, not -inf: its difference with itself is 0 and not nan
        least = torch.finfo(wide).min
        lse = hidden.new_full(targets.shape, least, dtype=wide)
        chosen = torch.zeros_like(lse)
        slope = torch.zeros_like(hidden, dtype=wide) if form_now else None
        few = targets.numel() * head.shape[0] <= tiling.keep and tiling.softcap is None
        keep = few and any(ctx.needs_input_grad) and not form_now
        kept: list[Tensor] = []
        with torch.autocast(hidden.device.type, enabled=False):
            for words, rows in tiling.tiles(hidden, head):
                part, shift = head[words], None if bias is None else bias[words]
                z = tiling.logits(hidden[rows], part, shift, wide)
                column, inside = _hits(targets[rows], words)
                chosen[rows] += z.gather(1, column).where(inside, 0).squeeze(1)
                top = z.amax(dim=1).clamp(min=least)
                e, weight = tiling.powers(z, top)
                total = torch.logaddexp(lse[rows], top + e.sum(dim=1).log())
                if slope is not None:
                    # the mean row of the head under the softmax so far, rescaled as the sum grows
                    slope[rows] *= (lse[rows] - total).exp_()[:, None]
                    slope[rows] -= (top - total).exp_()[:, None] * _product(weight, part, wide)
                if keep:
                    kept += [weight, top]
                lse[rows] = total
        if slope is not None:
            slope += tiling.slope(chosen)[:, None] * head[targets]
        ctx.tiling, ctx.formed, ctx.dtype = tiling, form_now, hidden.dtype
        ctx.save_for_backward(*((slope,) if form_now else (hidden, head, bias, targets, chosen, lse, *kept)))
        return chosen - lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.formed:
            (slope,) = ctx.saved_tensors
            return (slope * grad[:, None]).to(ctx.dtype), None, None, None, None, None
        hidden, head, bias, targets, chosen, lse, *kept = ctx.saved_tensors
        tiling, wide = ctx.tiling, lse.dtype
        want_hidden, want_head, want_bias = ctx.needs_input_grad[:3]
        hit = grad * tiling.slope(chosen)
        with torch.autocast(hidden.device.type, enabled=False):
            d_hidden = hit[:, None] * head[targets] if want_hidden else None
            d_head = torch.zeros_like(head, dtype=wide) if want_head else None
            d_bias = torch.zeros_like(bias, dtype=wide) if want_bias else None
            for number, (words, rows) in enumerate(tiling.tiles(hidden, head)):
                part, shift = head[words], None if bias is None else bias[words]
                if kept:
                    weight, top = kept[2 * number : 2 * number + 2]
                else:
                    top = lse[rows]
                    _, weight = tiling.powers(tiling.logits(hidden[rows], part, shift, wide), top)
                factor = grad[rows] * (top - lse[rows]).exp_()
                if d_hidden is not None:
                    d_hidden[rows] -= factor[:, None] * _product(weight, part, wide)
                if d_head is not None:
                    d_head[words] -= _product(weight.T, factor[:, None] * hidden[rows], wide)
                if d_bias is not None:
                    d_bias[words] -= factor @ weight
            if d_head is not None:
                d_head.index_add_(0, targets, hit[:, None] * hidden)
            if d_bias is not None:
                d_bias.index_add_(0, targets, hit)
        d_hidden = None if d_hidden is None else d_hidden.to(hidden.dtype)
        d_head = None if d_head is None else d_head.to(head.dtype)
        d_bias = None if d_bias is None else d_bias.to(bias.dtype)
        return d_hidden, d_head, d_bias, None, None, None
