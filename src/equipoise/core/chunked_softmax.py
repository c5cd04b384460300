"""Chunked log-softmax over a vocabulary, tile by tile: the autograd function behind `core.logprob`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def wide_type(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def product(a: Tensor, b: Tensor, wide: torch.dtype, onto: Tensor | None = None) -> Tensor:
    """a @ b, accumulated and returned in `wide`, or added to `onto`; half-precision units are used where they can
    return it."""
    half = torch.float16 if torch.float16 in (a.dtype, b.dtype) else torch.bfloat16
    if a.is_cuda and wide == torch.float32 and half in (a.dtype, b.dtype):
        result = torch.mm(a.to(half), b.to(half), out_dtype=wide)
        return result if onto is None else onto.add_(result)
    a, b = a.to(wide), b.to(wide)
    return a @ b if onto is None else onto.addmm_(a, b)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Logit transform (scale, softcap) and tile sizes.

    softcap, scale             z = softcap tanh(a / softcap) of a = scale (hidden @ head.T + bias); None: no cap.
    token_chunk, vocab_chunk   largest tile of logits, in tokens and words, >= 1.
    keep                       number of logits up to which their exponentials are kept for the backward.

    Raises ValueError for a chunk below 1 or a softcap that is not positive.
    """

    softcap: float | None
    scale: float
    token_chunk: int
    vocab_chunk: int
    keep: int

    def __post_init__(self) -> None:
        if self.token_chunk < 1 or self.vocab_chunk < 1:
            raise ValueError(f"chunks must be at least 1, got {self.token_chunk!r} and {self.vocab_chunk!r}")
        if self.softcap is not None and not self.softcap > 0:
            raise ValueError(f"softcap must be positive, got {self.softcap!r}")

    def rows(self, hidden: Tensor) -> Iterator[slice]:
        return slices(hidden.shape[0], self.token_chunk)

    def words(self, head: Tensor) -> Iterator[slice]:
        return slices(head.shape[0], self.vocab_chunk)

    def tiles(self, hidden: Tensor, head: Tensor) -> Iterator[tuple[slice, slice]]:
        return ((words, rows) for words in self.words(head) for rows in self.rows(hidden))

    def logits(self, hidden: Tensor, head: Tensor, bias: Tensor | None, wide: torch.dtype) -> Tensor:
        z = product(hidden, head.T, wide)
        if bias is not None:
            z += bias
        if self.scale != 1:
            z *= self.scale
        return z if self.softcap is None else z.div_(self.softcap).tanh_().mul_(self.softcap)

    def exp_shifted(self, z: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        """Shifted exponentials e = exp(z - top) [n, W], in place unless capped; and e dz/d(hidden @ head.T + bias)."""
        if self.softcap is None:
            e = z.sub_(top[:, None]).exp_()
            return e, e if self.scale == 1 else e * self.scale
        e = (z - top[:, None]).exp_()
        return e, e * self.slope(z)

    def slope(self, z: Tensor) -> Tensor:
        """dz / d(hidden @ head.T + bias)."""
        flat = torch.full_like(z, self.scale)
        return flat if self.softcap is None else flat.mul_(1 - (z / self.softcap).square())


def slices(count: int, step: int) -> Iterator[slice]:
    return (slice(low, min(low + step, count)) for low in range(0, count, max(step, 1)))


def target_columns(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Column [n, 1] of each target in a tile of these words, and whether it falls inside [n, 1].

    Columns outside are clamped rather than dropped: dropping would make a GPU wait for the count.
    """
    inside = (targets >= words.start) & (targets < words.stop)
    return (targets - words.start).clamp(0, words.stop - words.start - 1)[:, None], inside[:, None]


class TokenLogps(torch.autograd.Function):
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
        tiling: Tiling,
        form_now: bool,
    ) -> Tensor:
        wide = wide_type(hidden, head)
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
                column, inside = target_columns(targets[rows], words)
                chosen[rows] += z.gather(1, column).where(inside, 0).squeeze(1)
                top = z.amax(dim=1).clamp(min=least)
                e, weight = tiling.exp_shifted(z, top)
                total = torch.logaddexp(lse[rows], top + e.sum(dim=1).log())
                if slope is not None:
                    # the mean row of the head under the softmax so far, rescaled as the sum grows
                    slope[rows] *= (lse[rows] - total).exp_()[:, None]
                    slope[rows] -= (top - total).exp_()[:, None] * product(weight, part, wide)
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
                    _, weight = tiling.exp_shifted(tiling.logits(hidden[rows], part, shift, wide), top)
                factor = grad[rows] * (top - lse[rows]).exp_()
                if d_hidden is not None:
                    d_hidden[rows].addcmul_(product(weight, part, wide), factor[:, None], value=-1)
                if d_head is not None:
                    product(weight.T, -factor[:, None] * hidden[rows], wide, onto=d_head[words])
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
