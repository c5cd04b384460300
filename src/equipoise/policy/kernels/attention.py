"""Packed attention: every token reads its prompt and its own branch, without a T x T mask.

Any Hugging Face decoder whose attention goes through `transformers`' interface runs this way: inside `packed_row` its
layers call `attend` with the queries, keys and values of the whole row. On a CPU several unmasked flash-attention calls
make up the result: prompts and branches, each causal in itself, and the branches of a prompt on all of that prompt,
merged into one softmax by their log-sum-exps; short sequences are whole, many in one call. On other devices every
response stands behind a copy of its prompt's keys, right-padded, so that one causal call of the device's own kernel
serves without a mask; a layout may name another kernel (`device_attention`).

`forward` and `backward` are the same without autograd, for `kernels.decoder_layer`, whose last layer needs few queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from equipoise.policy.kernels.device_attention import FORMS, HALF
from equipoise.policy.kernels.segment_layout import Layout

NAME = "equipoise"
# arguments of an attention that would change the scores
UNSUPPORTED = ("softcap", "s_aux", "position_bias", "alibi", "cache")
_current: ContextVar[Layout | None] = ContextVar("layout", default=None)

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Unpackable(RuntimeError):
    """The model's attention cannot be computed on a packed row."""


@contextmanager
def packed_row(model: nn.Module, layout: Layout) -> Iterator[None]:
    """Context manager: the model's attention layers temporarily read a packed row of this layout."""
    configs: list[Any] = [*{id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()]
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
    """Packed attention as transformers calls it; G divides H.

    query [1, H, S, D], key and value [1, G, S, D] -> ([1, S, H, D], None).

    Raises Unpackable for scores that are capped, biased or cut to a window shorter than the longest sequence.
    """
    layout = _current.get()
    unsupported = [name for name in UNSUPPORTED if others.get(name) is not None]
    if sliding_window is not None and layout is not None and sliding_window < layout.longest:
        unsupported.append(f"a window of {sliding_window} tokens")
    if layout is None or len(query) != 1 or dropout or attention_mask is not None or unsupported:
        raise Unpackable(f"attention with {', '.join(unsupported) or 'a mask, dropout or several rows'}")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed_attention(q, k, v, layout, scale)[None], None


def packed_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """Differentiable packed attention: q [S, H, D], k and v [S, G, D] with G dividing H -> [S, H, D]."""
    if _by_segments(q, v):
        apply: Callable[..., Tensor] = _SegmentAttention.apply
        return apply(q, k, v, layout, scale).to(v.dtype)
    return _by_device(q, k, v, layout, scale)


def _by_device(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """Packed attention by the kernel that the layout names, in half precision; else on padded sequences."""
    form = as_sequences if layout.form is None or v.dtype not in HALF else FORMS[layout.form]
    return form(q, k, v, layout, scale)


def as_sequences(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """Packed attention by one causal call on padded sequences: every response behind a copy of its prompt."""
    places, source = layout.sequences
    kept = None if layout.kept is None else torch.tensor(layout.kept, device=q.device)
    if kept is not None:
        q = q.new_zeros(len(k), *q.shape[1:]).index_put((kept,), q)
    k, v = (_repeated(x, q.shape[1]) for x in (k, v))
    q, k, v = (x.to(v.dtype)[places].transpose(1, 2) for x in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    out = out.transpose(1, 2).flatten(0, 1)[source]
    return out if kept is None else out[kept]


def forward(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> tuple[Tensor, Tensor]:
    """`packed_attention` of the layout's kept queries, without autograd.

    q [S', H, D] -> ([S', H, D] in the dtype of v, [S', H, 1] log-sum-exps; those are empty where one call did it).
    """
    if not _by_segments(q, v):
        return _by_device(q, k, v, layout, scale), q.new_empty(0)
    out, lse = _segments_forward(q, k, v, layout, scale)
    return out.to(v.dtype), lse


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v from the inputs and outputs of `forward`. Where that was one call, it is repeated."""
    if _by_segments(q, v):
        return _segments_backward(grad, q, k, v, out, lse, layout, scale)
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    with torch.enable_grad():
        again = _by_device(q, k, v, layout, scale)
    d_q, d_k, d_v = torch.autograd.grad(again, (q, k, v), grad.to(again.dtype))
    return d_q, d_k, d_v


def _by_segments(q: Tensor, v: Tensor) -> bool:
    """Whether the device has the segments' flash kernel: a CPU, with queries as wide as values."""
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1]


def _repeated(x: Tensor, heads: int) -> Tensor:
    """Grouped-query attention: [S, G, D] -> [S, H, D], each head of keys or values repeated H / G times."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _summed(x: Tensor, groups: int) -> Tensor:
    """The backward of `_repeated`: [S, H, D] -> [S, G, D]."""
    return x if x.shape[1] == groups else x.unflatten(1, (groups, -1)).sum(dim=2)


def _for_kernel(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v with equal numbers of heads, in float32 or float64: the CPU kernel gains nothing from bf16."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    heads = q.shape[1]
    return q.to(dtype), _repeated(k, heads).to(dtype), _repeated(v, heads).to(dtype)


def _segments_forward(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> tuple[Tensor, Tensor]:
    q, k, v = _for_kernel(q, k, v)
    out, total_lse = torch.empty_like(q), q.new_empty(*q.shape[:2], 1)
    for queries, keys, causal in layout.calls:
        part, lse = _forward(queries.read(q), keys.read(k), keys.read(v), 0.0, causal, scale=scale)
        lse = lse[..., None]
        if not causal:
            before = queries.read(total_lse)
            merged = torch.logaddexp(before, lse)
            part = (queries.read(out) * (before - merged).exp_()).addcmul_(part, (lse - merged).exp_())
            lse = merged
        queries.write(out, part)
        queries.write(total_lse, lse)
    return out, total_lse


def _segments_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, layout: Layout, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    groups, dtypes = k.shape[1], (q.dtype, k.dtype, v.dtype)
    q, k, v = _for_kernel(q, k, v)
    grad, out = grad.to(q.dtype), out.to(q.dtype)
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for queries, keys, causal in layout.calls:
        inputs = (queries.read(grad), queries.read(q), keys.read(k), keys.read(v), queries.read(out))
        d_queries, d_keys, d_values = _backward(*inputs, queries.read(lse)[..., 0], 0.0, causal, scale=scale)
        queries.write(dq, d_queries, add=not causal)
        keys.write(dk, d_keys, add=True)
        keys.write(dv, d_values, add=True)
    dk, dv = _summed(dk, groups), _summed(dv, groups)
    dq, dk, dv = (x.to(dtype) for x, dtype in zip((dq, dk, dv), dtypes, strict=True))
    return dq, dk, dv


class _SegmentAttention(torch.autograd.Function):
    """Flash attention by segments on a CPU: forward and backward into one buffer each.

    With o_b and s_b the result and log-sum-exp of call b, s = log sum_b exp s_b and o = sum_b exp(s_b - s) o_b. The
    kernel's backward, given o and s in place of o_b and s_b, is the exact share of call b in the gradient: with S the
    scaled scores, dS = exp(S - s) * (g V' - rowsum(g * o)) holds for any subset of the keys.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
        out, lse = _segments_forward(q, k, v, layout, scale)
        ctx.layout, ctx.scale = layout, scale
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        return *_segments_backward(grad, q, k, v, out, lse, ctx.layout, ctx.scale), None, None
