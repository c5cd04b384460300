"""The common decoder layer on a packed row as one autograd function, with a backward of its own.

A layer of Llama, Qwen 2 and 3, Mistral or Gemma 1 on hidden states h [S, D] is

    x = norm(h; g1)    q, k, v = turn(x Wq'), turn(x Wk'), x Wv'    (turn: a norm of each head, if there is one; rotary)
    m = h + attention(q, k, v) Wo'
    y = norm(m; g2)    out = m + (act(y Wg') * y Wu') Wd'           norm(h; g) = g h / sqrt(mean h^2 + eps)

Kept for the backward: h, m, q, k and v (q and k before their norm, if they have one), the attention's result and
log-sum-exps, y Wg' and y Wu'. Everything else is formed again there, which costs elementwise passes and no product.
Weights stay in their modules and are read at each call; maps may have biases and low-rank adapters, and what is frozen
costs no gradient. The last layer computes q, attention and all that follows for the states that are looked at only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from equipoise.policy.kernels import attention
from equipoise.policy.kernels.attention import Unpackable
from equipoise.policy.kernels.elementwise import gated, gated_back, turned
from equipoise.policy.kernels.linear import (
    Half,
    Map,
    Norm,
    Unusual,
    activation_of,
    check,
    linears,
    map_of,
    norm_of,
)
from equipoise.policy.kernels.segment_layout import Layout


class Parts(NamedTuple):
    """A layer's weights, in the order in which it reads them."""

    first: Norm
    q: Map
    k: Map
    v: Map
    q_norm: Norm | None
    k_norm: Norm | None
    o: Map
    second: Norm
    gate: Map
    up: Map
    down: Map

    def tensors(self) -> list[Tensor | None]:
        return [
            t for part in self if part is not None for t in (part[:1] if isinstance(part, Norm) else part[:4])
        ]

    def of(self, values: Sequence[Any]) -> list[Any]:
        """Something for each of the tensors, part by part: one thing for a norm, four for a map."""
        rest = iter(values)
        return [
            None if p is None else [next(rest) for _ in range(1 if isinstance(p, Norm) else 4)] for p in self
        ]

    def with_tensors(self, values: Sequence[Tensor | None]) -> Parts:
        found = zip(self, self.of(values), strict=True)
        return Parts(*(p if p is None else type(p)(*given, *p[len(given) :]) for p, given in found))

    def detached(self) -> Parts:
        return self.with_tensors([t if t is None else t.detach() for t in self.tensors()])


@dataclass(frozen=True)
class Plan:
    """What a layer is told beside tensors. `kept`: the places whose states it gives, None for all."""

    parts: Parts  # without a gradient of their own
    width: int  # of a head
    scale: float
    activation: str
    layout: Layout
    kept: Tensor | None

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.width))

    def at(self, x: Tensor) -> Tensor:
        return x if self.kept is None else x.index_select(0, self.kept)

    def turns(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys as the attention reads them."""
        if self.parts.q_norm is not None and self.parts.k_norm is not None:
            q, k = self.parts.q_norm(q), self.parts.k_norm(k)
        return turned(q, self.at(cos), self.at(sin)), turned(k, cos, sin)


class _Layer(torch.autograd.Function):
    """The formulas at the head of the file. Half-precision products leave the states themselves as they are."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, cos: Tensor, sin: Tensor, plan: Plan, *tensors: Tensor | None
    ) -> Tensor:
        parts = plan.parts.with_tensors(tensors)
        with torch.autocast(hidden.device.type, enabled=False):
            x = parts.first(hidden)
            q, k, v = (plan.heads(m(y)) for m, y in ((parts.q, plan.at(x)), (parts.k, x), (parts.v, x)))
            del x
            given = plan.turns(q, k, cos, sin)
            if parts.q_norm is None:
                q, k = given
            read, total = attention.forward(*given, v, plan.layout, plan.scale)
            del given
            middle = plan.at(hidden) + parts.o(read.flatten(1))
            y = parts.second(middle)
            gate, up = parts.gate(y), parts.up(y)
            del y
            out = parts.down(gated(gate, up, plan.activation)).to(middle.dtype).add_(middle)
        ctx.plan = plan
        ctx.save_for_backward(hidden, cos, sin, q, k, v, read, total, middle, gate, up, *tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cos, sin, q, k, v, read, total, middle, gate, up, *tensors = ctx.saved_tensors
        plan: Plan = ctx.plan
        parts, wanted = plan.parts.with_tensors(tensors), Parts(*plan.parts.of(ctx.needs_input_grad[4:]))

        # the MLP
        product, d_gate, d_up = gated_back(gate, up, parts.down.back(grad, None), plan.activation)
        d_down = parts.down.slopes(product, grad, wanted.down)
        del product
        y = parts.second(middle)
        d_gates, d_ups = parts.gate.slopes(y, d_gate, wanted.gate), parts.up.slopes(y, d_up, wanted.up)
        d_y = parts.up.back(d_up, parts.gate.back(d_gate, None)).to(middle.dtype)
        del d_up, d_gate, y
        d_middle, d_second = parts.second.back(middle, d_y)
        d_middle += grad

        # the attention
        d_o = parts.o.slopes(read.flatten(1), d_middle, wanted.o)
        d_read = plan.heads(parts.o.back(d_middle, None))
        given = (q, k) if parts.q_norm is None else plan.turns(q, k, cos, sin)
        d_q, d_k, d_v = attention.backward(d_read, *given, v, read, total, plan.layout, plan.scale)
        d_q = turned(d_q, plan.at(cos), -plan.at(sin))
        d_k = turned(d_k, cos, -sin)
        d_norms: list[list[Tensor]] = []
        if parts.q_norm is not None and parts.k_norm is not None:
            (d_q, d_q_norm), (d_k, d_k_norm) = parts.q_norm.back(q, d_q), parts.k_norm.back(k, d_k)
            d_norms = [[d_q_norm], [d_k_norm]]
        d_q, d_k, d_v = (d.flatten(1) for d in (d_q, d_k, d_v))
        x = parts.first(hidden)
        d_maps = [
            m.slopes(given, d, want)
            for m, given, d, want in (
                (parts.q, plan.at(x), d_q, wanted.q),
                (parts.k, x, d_k, wanted.k),
                (parts.v, x, d_v, wanted.v),
            )
        ]
        d_hidden, d_first = None, None
        if ctx.needs_input_grad[0] or wanted.first[0]:
            d_x = parts.v.back(d_v, parts.k.back(d_k, None)).to(hidden.dtype)
            if plan.kept is None:
                d_x = parts.q.back(d_q, d_x)
            else:
                d_x.index_add_(0, plan.kept, parts.q.back(d_q, None).to(d_x.dtype))
            d_hidden, d_first = parts.first.back(hidden, d_x)
            d_hidden = (
                d_hidden.add_(d_middle) if plan.kept is None else d_hidden.index_add_(0, plan.kept, d_middle)
            )
        found = [[d_first], *d_maps, *d_norms, d_o, [d_second], d_gates, d_ups, d_down]
        return d_hidden, None, None, None, *(d for part in found for d in part)


class Blocks:
    """The layers of a backbone, as this file computes them.

    Raises Unusual naming what is not of the common shape. It is looked at and not compared: a probe has to.
    """

    def __init__(self, backbone: Any) -> None:
        self.layers = list(getattr(backbone, "layers", None) or [])
        if not self.layers:
            raise Unusual("no layers")
        for layer in self.layers:
            check(layer)
        norm = self.layers[0].input_layernorm
        ones = torch.ones_like(norm.weight)
        self.offset = float(round(float((norm(ones) - norm.weight).detach()[0])))
        self.activation = activation_of(self.layers[0].mlp.act_fn)
        for layer in self.layers:
            self.parts(layer, None)

    def parts(self, layer: Any, half: Half) -> Parts:
        a, norm = layer.self_attn, partial(norm_of, offset=self.offset)
        q, k, v, o, gate, up, down = (map_of(module, half) for module in linears(layer))
        own = [norm(getattr(a, name)) if hasattr(a, name) else None for name in ("q_norm", "k_norm")]
        first, second = norm(layer.input_layernorm), norm(layer.post_attention_layernorm)
        return Parts(first, q, k, v, *own, o, second, gate, up, down)

    @contextmanager
    def reading(self, layout: Layout, kept: Tensor) -> Iterator[None]:
        """The backbone reads a packed row of this layout, for a while, and gives the states of the places `kept` [M']
        of it: [1, M', D]."""
        last = replace(layout, kept=tuple(kept.tolist()))
        with ExitStack() as stack:
            for layer in self.layers:
                pruned = layer is self.layers[-1]
                layer.forward = partial(
                    self._run, layer, last if pruned else layout, kept if pruned else None
                )  # an attribute of the object, before the method of its class
                stack.callback(delattr, layer, "forward")
            yield

    def _run(
        self,
        layer: Any,
        layout: Layout,
        kept: Tensor | None,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        attn = layer.self_attn
        window = getattr(attn, "sliding_window", getattr(attn.config, "sliding_window", None))
        if attention_mask is not None or len(hidden_states) != 1 or (window and window < layout.longest):
            raise Unpackable(
                f"attention with {f'a window of {window} tokens' if window else 'a mask or several rows'}"
            )
        device = hidden_states.device.type
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        parts = self.parts(layer, half)
        plan = Plan(parts.detached(), attn.head_dim, attn.scaling, self.activation, layout, kept)
        cos, sin = (x[0, :, None] for x in position_embeddings)
        return _Layer.apply(hidden_states[0], cos, sin, plan, *parts.tensors())[None]
