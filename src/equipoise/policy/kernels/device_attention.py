"""Packed attention by PyTorch's kernels for GPUs: varlen (FlashAttention) and FlexAttention, without padding.

Both read every query where it stands in the row. Varlen takes one segment for each prompt and each branch: its queries
are the segment's own tokens, its keys those behind a copy of the prompt's, causal from the end, in half precision.
FlexAttention keeps the row's keys as they are and is compiled for a block mask: a query reads keys of its prompt and of
its own branch that are not after it.

Neither was run on a GPU yet; what they compute is checked where they are chosen (`why_not`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from equipoise.policy.kernels.segment_layout import Layout

HALF = (torch.bfloat16, torch.float16)
TREE = ((9, (4, 1, 6)), (3, ()), (5, (8,)))  # of the probe: prompts and branches of all kinds
KEPT = (8, 10, 11, 12, 13, 17, 18, 19, 27, *range(28, 36))  # places that a last layer needs
HEADS, GROUPS, SIZE = 4, 2, 64  # of the probe
UNITS = 16.0  # of rounding that the probe's results may differ by


def by_varlen(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """Packed attention by `torch.nn.attention.varlen.varlen_attn`: q [S', H, D], k and v [S, G, D] -> [S', H, D]."""
    from torch.nn.attention.varlen import varlen_attn

    keys, begins_q, begins_k, most_q, most_k = segments(layout)
    k, v = (x.index_select(0, keys).to(v.dtype) for x in (k, v))
    out: Any = varlen_attn(
        q.to(v.dtype),
        k,
        v,
        begins_q,
        begins_k,
        most_q,
        most_k,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    attended: Tensor = out
    return attended


@lru_cache(maxsize=4)
def segments(layout: Layout) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """(places of all segments' keys, where each segment's queries and keys begin and the last end, the most of each).

    A segment is a prompt or a branch that has queries; together they have all of them, in order.
    """
    keys, counts, lengths = [], [], []
    for prompt, branches in layout.spans:
        for begin, length in (prompt, *branches):
            _, count = layout.query_span(begin, length)
            if not count:
                continue
            own = torch.arange(begin, begin + length)
            read = own if begin == prompt[0] else torch.cat([torch.arange(prompt[0], sum(prompt)), own])
            keys.append(read)
            counts.append(count)
            lengths.append(len(read))
    begins_q, begins_k = (
        torch.tensor([0, *each]).cumsum(0).to(layout.device, torch.int32) for each in (counts, lengths)
    )
    return torch.cat(keys).to(layout.device), begins_q, begins_k, max(counts), max(lengths)


def by_flex(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """Packed attention by `torch.nn.attention.flex_attention`: q [S', H, D], k and v [S, G, D] -> [S', H, D]."""
    q, k, v = (x.to(v.dtype).transpose(0, 1)[None] for x in (q, k, v))
    mask = _block_mask(layout, q.shape[2], k.shape[2])
    out = _flex(q.device.type)(q, k, v, block_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    attended: Tensor = out[0].transpose(0, 1)
    return attended


@lru_cache(maxsize=4)
def _block_mask(layout: Layout, queries: int, keys: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    kept = torch.arange(keys) if layout.kept is None else torch.tensor(layout.kept)
    prompt, branch = (torch.empty(keys, dtype=torch.long) for _ in range(2))
    for number, (first, branches) in enumerate(layout.spans):
        for index, (begin, length) in enumerate((first, *branches)):
            prompt[begin : begin + length] = number
            branch[begin : begin + length] = index
    kept, prompt, branch = (x.to(layout.device) for x in (kept, prompt, branch))

    def reads(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        place = kept[query]
        own = (branch[key] == 0) | (branch[key] == branch[place])
        return (prompt[key] == prompt[place]) & own & (key <= place)

    return create_block_mask(reads, None, None, queries, keys, device=str(layout.device))


@lru_cache(maxsize=2)
def _flex(device: str) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    made: Any = flex_attention if device == "cpu" else torch.compile(flex_attention, dynamic=True)
    run: Callable[..., Tensor] = made
    return run


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, Layout, float], Tensor]] = {
    "varlen": by_varlen,
    "flex": by_flex,
}


def exact(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """The same by one softmax over a dense mask, in float32."""
    size = len(k)
    seen = torch.zeros(size, size, dtype=torch.bool)
    for prompt, branches in layout.spans:
        for begin, length in (prompt, *branches):
            seen[begin : begin + length, prompt[0] : sum(prompt)] = True
            seen[begin : begin + length, begin : begin + length] = True
    seen = seen.tril().to(q.device)
    rows = seen if layout.kept is None else seen[list(layout.kept)]
    k, v = (x.float().repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.float(), k) * scale
    weights = scores.masked_fill(~rows, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v)


def why_not(form: str, device: torch.device) -> str:
    """Why a form of attention is ruled out on a device, or "": it is run on a few random queries in half precision, and
    results and gradients are compared with a dense mask's."""
    draw = torch.Generator().manual_seed(0)
    size = sum(prompt + sum(branches) for prompt, branches in TREE)
    for kept in (None, KEPT):
        layout = Layout(TREE, device, kept)
        q, k, v = (
            torch.randn(size, heads, SIZE, generator=draw).to(device, torch.bfloat16).requires_grad_()
            for heads in (HEADS, GROUPS, GROUPS)
        )
        slope = torch.randn(len(kept or range(size)), HEADS, SIZE, generator=draw).to(device)
        found = []
        for attend in (FORMS[form], exact):
            try:
                out = attend(q if kept is None else q[list(kept)], k, v, layout, SIZE**-0.5).float()
                found.append([out, *torch.autograd.grad((slope * out).sum(), (q, k, v))])
            except Exception as error:  # noqa: BLE001 - kernels of other versions and devices may raise anything
                return f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0][:200]
        for ours, wanted in zip(*found, strict=True):
            off = float((ours - wanted).detach().float().norm() / wanted.detach().float().norm())
            if not off <= UNITS * torch.finfo(torch.bfloat16).eps:
                return f"its results differ by {off:.0e} from those of a dense mask"
    return ""
