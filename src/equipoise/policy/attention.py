"""Attention in a packed row: every token reads its prompt and its own branch, and no T x T mask is ever made.

Any Hugging Face decoder whose attention goes through `transformers`' interface runs this way: inside `attending` its
layers call `attend` with the queries, keys and values of the whole row. On a CPU three kinds of unmasked blocks make
up the result: prompts and branches, each causal in itself, and the branches of a prompt on all of that prompt. The
last two meet in a softmax over both, by their log-sum-exps. Elsewhere every response stands behind a copy of its
prompt's keys, right-padded, so that one causal call without a mask serves the kernels of that device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from equipoise.data.pack import Tree

NAME = "equipoise"
STEP = 16  # segments whose lengths agree up to a multiple of this are computed in one call, padded to the longest
CHANGES = ("softcap", "s_aux", "position_bias", "alibi", "cache")  # arguments that would change the scores
_current: ContextVar[Layout | None] = ContextVar("layout", default=None)

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

Span = tuple[int, int]  # where a segment begins in the row, and its length


class Unpackable(RuntimeError):
    """The model asks for an attention that a packed row cannot give."""


@dataclass(frozen=True)
class Segments:
    """n segments of a row of S tokens, read and written as [n, H, L, D] with L the longest.

    One segment is a view. Several are gathered, zeros after their ends; where they are written the zeros are left out.
    """

    spans: tuple[Span, ...]
    rows: Tensor | None  # [tokens] places in the row
    where: Tensor | None  # [tokens] places in n * L

    @classmethod
    def of(cls, spans: list[Span], device: torch.device) -> Segments:
        if len(spans) == 1:
            return cls(tuple(spans), None, None)
        longest = max(length for _, length in spans)
        rows = torch.cat([torch.arange(begin, begin + length) for begin, length in spans])
        where = torch.cat([torch.arange(n * longest, n * longest + m) for n, (_, m) in enumerate(spans)])
        return cls(tuple(spans), rows.to(device), where.to(device))

    def read(self, x: Tensor) -> Tensor:
        """[S, H, D] -> [n, H, L, D]."""
        if self.rows is None:
            ((begin, length),) = self.spans
            return x[begin : begin + length].transpose(0, 1)[None]
        longest = max(length for _, length in self.spans)
        found = x.new_zeros(len(self.spans) * longest, *x.shape[1:])
        found[self.where] = x[self.rows]
        return found.view(len(self.spans), longest, *x.shape[1:]).transpose(1, 2)

    def write(self, x: Tensor, values: Tensor, *, add: bool = False) -> None:
        """The inverse of `read`, into x; with `add` on top of what is there."""
        flat = values.transpose(1, 2).flatten(0, 1)
        if self.rows is None:
            ((begin, length),) = self.spans
            target = x[begin : begin + length]
            target.add_(flat) if add else target.copy_(flat)
        elif add:
            x.index_add_(0, self.rows, flat[self.where])
        else:
            x[self.rows] = flat[self.where]


@dataclass(frozen=True)
class Layout:
    """Where the segments of a packed row are; see `data.pack` for the tree."""

    tree: Tree
    device: torch.device

    @cached_property
    def spans(self) -> list[tuple[Span, list[Span]]]:
        """Each prompt and its branches; empty branches are left out."""
        found, begin = [], 0
        for prompt, branches in self.tree:
            inside = []
            end = begin + prompt
            for length in branches:
                inside += [(end, length)] * (length > 0)
                end += length
            found.append(((begin, prompt), inside))
            begin = end
        return found

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(prompt + max(branches, default=0) for prompt, branches in self.tree)

    @cached_property
    def causal(self) -> list[Segments]:
        """Prompts and branches, each of which reads itself."""
        groups = defaultdict(list)
        for prompt, branches in self.spans:
            for span in (prompt, *branches):
                groups[-span[1] // STEP].append(span)
        return [Segments.of(group, self.device) for group in groups.values()]

    @cached_property
    def across(self) -> list[tuple[Segments, Segments]]:
        """The branches of a prompt, end to end, and the prompt they read. Prompts that share a call are equally long,
        because a key too many would count."""
        groups = defaultdict(list)
        for prompt, branches in self.spans:
            if branches:
                length = branches[-1][0] + branches[-1][1] - branches[0][0]
                groups[prompt[1], -length // STEP].append(((branches[0][0], length), prompt))
        return [
            (
                Segments.of([queries for queries, _ in group], self.device),
                Segments.of([keys for _, keys in group], self.device),
            )
            for group in groups.values()
        ]

    @cached_property
    def sequences(self) -> tuple[Tensor, Tensor]:
        """([n, T] place in the row of each token of each whole sequence, [S] one place in n * T of each token)."""
        rows = []
        for (begin, length), branches in self.spans:
            prompt = torch.arange(begin, begin + length)
            rows += [torch.cat([prompt, torch.arange(b, b + n)]) for b, n in branches] or [prompt]
        places = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        source = torch.empty(sum(p + sum(b) for p, b in self.tree), dtype=torch.long)
        for number, row in enumerate(rows):
            source[row] = torch.arange(len(row)) + number * places.shape[1]
        return places.to(self.device), source.to(self.device)


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
    """q [S, H, D], k and v [S, G, D] -> [S, H, D]."""
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    if q.device.type == "cpu" and q.shape == v.shape:
        dtype = v.dtype
        wide = torch.float64 if q.dtype == torch.float64 else torch.float32  # bf16 gains nothing here
        return _Blocks.apply(q.to(wide), k.to(wide), v.to(wide), layout, scale).to(dtype)
    return as_sequences(q.to(v.dtype), k.to(v.dtype), v, layout, scale)


def as_sequences(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """Every response behind its own copy of the prompt: one causal call."""
    places, source = layout.sequences
    laid = (x[places].transpose(1, 2) for x in (q, k, v))
    found = scaled_dot_product_attention(*laid, is_causal=True, scale=scale)
    return found.transpose(1, 2).flatten(0, 1)[source]


class _Blocks(torch.autograd.Function):
    """Blocks of a CPU's flash kernel, forward and backward into one buffer each.

    With o_b and s_b the result and log-sum-exp of block b, s = log sum_b exp s_b and o = sum_b exp(s_b - s) o_b. The
    kernel's backward, given o and s in place of o_b and s_b, is the exact share of block b in the gradient.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
        out, total = torch.empty_like(q), q.new_empty(*q.shape[:2], 1)
        for block in layout.causal:
            found, lse = _forward(block.read(q), block.read(k), block.read(v), 0.0, True, scale=scale)
            block.write(out, found)
            block.write(total, lse[..., None])
        for block, keys in layout.across:
            found, lse = _forward(block.read(q), keys.read(k), keys.read(v), 0.0, False, scale=scale)
            own = block.read(total)
            both = torch.logaddexp(own, lse[..., None])
            found = block.read(out) * (own - both).exp_() + found * (lse[..., None] - both).exp_()
            block.write(out, found)
            block.write(total, both)
        ctx.layout, ctx.scale = layout, scale
        ctx.save_for_backward(q, k, v, out, total)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, total = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        blocks = [(block, block, True) for block in ctx.layout.causal]
        blocks += [(block, keys, False) for block, keys in ctx.layout.across]
        for block, keys, causal in blocks:
            given = (block.read(grad), block.read(q), keys.read(k), keys.read(v), block.read(out))
            lse = block.read(total)[..., 0]
            found = _backward(*given, lse, 0.0, causal, scale=ctx.scale)
            # the causal blocks come first and cover every token once
            block.write(dq, found[0], add=not causal)
            keys.write(dk, found[1], add=not causal)
            keys.write(dv, found[2], add=not causal)
        return dq, dk, dv, None, None


def register() -> None:
    """Make `attend` known to transformers under `NAME`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
