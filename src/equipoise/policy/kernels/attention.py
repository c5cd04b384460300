"""Attention in a packed row: every token reads its prompt and its own branch, and no T x T mask is ever made.

Any Hugging Face decoder whose attention goes through `transformers`' interface runs this way: inside `attending` its
layers call `attend` with the queries, keys and values of the whole row. On a CPU unmasked blocks make up the result:
prompts and branches, each causal in itself, and the branches of a prompt on all of that prompt, whose results meet in
a softmax over both by their log-sum-exps; short sequences are whole blocks, many in one call. Elsewhere every response
stands behind a copy of its prompt's keys, right-padded, so that one causal call without a mask serves the kernels of
that device.

`forward` and `backward` are the same without autograd, for `policy.block`, whose last layer asks for few queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from equipoise.policy.kernels.segment_layout import Layout

NAME = "equipoise"
CHANGES = ("softcap", "s_aux", "position_bias", "alibi", "cache")  # arguments that would change the scores
_current: ContextVar[Layout | None] = ContextVar("layout", default=None)

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Unpackable(RuntimeError):
    """The model asks for an attention that a packed row cannot give."""


@contextmanager
def attending(model: nn.Module, layout: Layout) -> Iterator[None]:
    """The model's attention layers read a packed row of this layout, for a while."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()
    before = [config._attn_implementation for config in configs]
    token = _current.set(layout)
    try:
        for config in configs:
            config._attn_implementation = NAME
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
        _current.reset(token)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What a layer calls: query [1, H, S, D], key and value [1, G, S, D] with G dividing H -> ([1, S, H, D], None).

    Raises Unpackable for scores that are capped, biased or cut to a window shorter than the longest sequence.
    """
    layout = _current.get()
    asked = [name for name in CHANGES if others.get(name) is not None]
    if sliding_window is not None and layout is not None and sliding_window < layout.longest:
        asked.append(f"a window of {sliding_window} tokens")
    if layout is None or len(query) != 1 or dropout or attention_mask is not None or asked:
        raise Unpackable(f"attention with {', '.join(asked) or 'a mask, dropout or several rows'}")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return over(q, k, v, layout, scale)[None], None


def over(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """q [S, H, D], k and v [S, G, D] with G dividing H -> [S, H, D]."""
    if _in_blocks(q, v):
        return _Blocks.apply(q, k, v, layout, scale).to(v.dtype)
    return as_sequences(q, k, v, layout, scale)


def as_sequences(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """Every response behind its own copy of the prompt: one causal call."""
    places, source = layout.sequences
    kept = slice(None) if layout.kept is None else torch.tensor(layout.kept, device=q.device)
    if layout.kept is not None:
        q = q.new_zeros(len(k), *q.shape[1:]).index_put((kept,), q)
    k, v = (_repeated(x, q.shape[1]) for x in (k, v))
    laid = (x.to(v.dtype)[places].transpose(1, 2) for x in (q, k, v))
    found = scaled_dot_product_attention(*laid, is_causal=True, scale=scale)
    return found.transpose(1, 2).flatten(0, 1)[source][kept]


def forward(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> tuple[Tensor, Tensor]:
    """`over`, for queries that may be few: ([S, H, D] in the type of v, [S, H, 1] log-sum-exps or nothing)."""
    if not _in_blocks(q, v):
        return as_sequences(q, k, v, layout, scale), q.new_empty(0)
    out, total = _forward_in_blocks(q, k, v, layout, scale)
    return out.to(v.dtype), total


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, total: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, by what `forward` was given and gave. Where it was one call, that call is repeated."""
    if _in_blocks(q, v):
        return _backward_in_blocks(grad, q, k, v, out, total, layout, scale)
    given = [x.detach().requires_grad_() for x in (q, k, v)]
    with torch.enable_grad():
        again = as_sequences(*given, layout, scale)
    return torch.autograd.grad(again, given, grad.to(again.dtype))


def _in_blocks(q: Tensor, v: Tensor) -> bool:
    """Whether the device has the kernel for blocks: heads of equal width on a CPU."""
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1]


def _repeated(x: Tensor, heads: int) -> Tensor:
    """[S, G, D] -> [S, H, D], as many heads as there are of queries."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _summed(x: Tensor, groups: int) -> Tensor:
    """The gradient of `_repeated`."""
    return x if x.shape[1] == groups else x.unflatten(1, (groups, -1)).sum(dim=2)


def _wide(q: Tensor, k: Tensor, v: Tensor) -> Iterator[Tensor]:
    """In the type of the kernel, which gains nothing from bf16, and as many heads of each."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return (_repeated(x, q.shape[1]).to(dtype) for x in (q, k, v))


def _forward_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, Tensor]:
    q, k, v = _wide(q, k, v)
    out, total = torch.empty_like(q), q.new_empty(*q.shape[:2], 1)
    for block, keys, causal in layout.blocks:
        found, lse = _forward(block.read(q), keys.read(k), keys.read(v), 0.0, causal, scale=scale)
        lse = lse[..., None]
        if not causal:
            own = block.read(total)
            both = torch.logaddexp(own, lse)
            found = (block.read(out) * (own - both).exp_()).addcmul_(found, (lse - both).exp_())
            lse = both
        block.write(out, found)
        block.write(total, lse)
    return out, total


def _backward_in_blocks(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, total: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    groups, dtypes = k.shape[1], (q.dtype, k.dtype, v.dtype)
    q, k, v = _wide(q, k, v)
    grad, out = grad.to(q.dtype), out.to(q.dtype)
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for block, keys, causal in layout.blocks:
        given = (block.read(grad), block.read(q), keys.read(k), keys.read(v), block.read(out))
        found = _backward(*given, block.read(total)[..., 0], 0.0, causal, scale=scale)
        block.write(dq, found[0], add=not causal)
        keys.write(dk, found[1], add=True)
        keys.write(dv, found[2], add=True)
    dk, dv = _summed(dk, groups), _summed(dv, groups)
    dq, dk, dv = (x.to(dtype) for x, dtype in zip((dq, dk, dv), dtypes, strict=True))
    return dq, dk, dv


class _Blocks(torch.autograd.Function):
    """Blocks of a CPU's flash kernel, forward and backward into one buffer each.

    With o_b and s_b the result and log-sum-exp of block b, s = log sum_b exp s_b and o = sum_b exp(s_b - s) o_b. The
    kernel's backward, given o and s in place of o_b and s_b, is the exact share of block b in the gradient.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
        out, total = _forward_in_blocks(q, k, v, layout, scale)
        ctx.layout, ctx.scale = layout, scale
        ctx.save_for_backward(q, k, v, out, total)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_backward_in_blocks(grad, *ctx.saved_tensors, ctx.layout, ctx.scale), None, None
