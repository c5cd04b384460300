"""A Llama-style decoder layer on a packed row as one autograd function with its own backward.

A layer of Llama, Qwen 2 and 3, Mistral or Gemma 1 on hidden states h [S, D] is

    x = norm(h; g1)    q, k, v = rot(x Wq'), rot(x Wk'), x Wv'      (rot: a norm of each head, if there is one; RoPE)
    m = h + attention(q, k, v) Wo'
    y = norm(m; g2)    out = m + (act(y Wg') * y Wu') Wd'           norm(h; g) = g h / sqrt(mean h^2 + eps)

Saved for the backward: h, m, q, k and v (q and k before their norm, if they have one), the attention's result and
log-sum-exps, y Wg' and y Wu'. Everything else is recomputed there: elementwise passes, no matrix product. Weights stay
in their modules and are read at each call; linear layers may have biases and LoRA adapters, frozen weights cost no
gradient. The last layer computes q, attention and what follows only for the states that are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from equipoise.policy.kernels import attention
from equipoise.policy.kernels.attention import Unpackable
from equipoise.policy.kernels.elementwise import glu, glu_backward, rope
from equipoise.policy.kernels.linear import (
    LoraLinear,
    RmsNorm,
    UnsupportedLayer,
    activation_name,
    check_structure,
    linear_modules,
    lora_linear_of,
    rms_norm_of,
)
from equipoise.policy.kernels.segment_layout import Layout


class LayerWeights(NamedTuple):
    """A layer's norms and linear layers, in the order in which it applies them."""

    input_norm: RmsNorm
    q: LoraLinear
    k: LoraLinear
    v: LoraLinear
    q_norm: RmsNorm | None
    k_norm: RmsNorm | None
    o: LoraLinear
    mlp_norm: RmsNorm
    gate: LoraLinear
    up: LoraLinear
    down: LoraLinear

    def tensors(self) -> list[Tensor | None]:
        """All weights, flat: one for each norm, four (weight, bias, A, B) for each linear layer."""
        return [t for part in self if part is not None for t in part.tensors]

    def grouped(self, values: Sequence[Any]) -> list[Any]:
        """A flat list in the order of `tensors`, as one list for each part."""
        rest = iter(values)
        return [None if part is None else [next(rest) for _ in part.tensors] for part in self]

    def with_tensors(self, values: Sequence[Tensor | None]) -> LayerWeights:
        grouped = zip(self, self.grouped(values), strict=True)
        parts: list[Any] = [p if p is None else type(p)(*given, *p[len(given) :]) for p, given in grouped]
        return LayerWeights(*parts)

    def detached(self) -> LayerWeights:
        return self.with_tensors([t if t is None else t.detach() for t in self.tensors()])


@dataclass(frozen=True)
class LayerPlan:
    """Arguments of a layer besides its tensors.

    kept    [S'] the only places whose states the layer returns; None: all S.
    """

    weights: LayerWeights  # detached
    head_dim: int
    scale: float  # of the attention scores
    activation: str
    layout: Layout
    kept: Tensor | None

    def heads(self, x: Tensor) -> Tensor:
        """[S, H * E] -> [S, H, E]."""
        return x.unflatten(-1, (-1, self.head_dim))

    def select(self, x: Tensor) -> Tensor:
        """[S, ...] -> [S', ...] at the kept places."""
        return x if self.kept is None else x.index_select(0, self.kept)

    def rotated(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys as the attention reads them: after the norms of heads, if there are any, and RoPE."""
        if self.weights.q_norm is not None and self.weights.k_norm is not None:
            q, k = self.weights.q_norm(q), self.weights.k_norm(k)
        return rope(q, self.select(cos), self.select(sin)), rope(k, cos, sin)


class _DecoderLayer(torch.autograd.Function):
    """The layer of the module docstring: hidden states [S, D] -> [S', D].

    The backward goes through the formulas from the last to the first. With g the gradient of the output:

        MLP         d_gate, d_up = glu_backward(g Wd)                     d_m = g + norm_backward(d_gate Wg + d_up Wu)
        attention   d_q, d_k, d_v = attention.backward(d_m Wo)            then RoPE by -sin and the norms of heads
        input       d_h = d_m + norm_backward(d_q Wq + d_k Wk + d_v Wv)

    and each linear layer's weight gradients come from its input, recomputed, and the gradient of its output. Matrix
    products in half precision leave hidden states in their own dtype.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, cos: Tensor, sin: Tensor, plan: LayerPlan, *tensors: Tensor | None
    ) -> Tensor:
        weights = plan.weights.with_tensors(tensors)
        with torch.autocast(hidden.device.type, enabled=False):
            x = weights.input_norm(hidden)
            q, k, v = (
                plan.heads(linear(y))
                for linear, y in ((weights.q, plan.select(x)), (weights.k, x), (weights.v, x))
            )
            del x
            rotated = plan.rotated(q, k, cos, sin)
            if weights.q_norm is None:
                q, k = rotated
            attended, lse = attention.forward(*rotated, v, plan.layout, plan.scale)
            del rotated
            middle = plan.select(hidden) + weights.o(attended.flatten(1))
            y = weights.mlp_norm(middle)
            gate, up = weights.gate(y), weights.up(y)
            del y
            out = weights.down(glu(gate, up, plan.activation)).to(middle.dtype).add_(middle)
        ctx.plan = plan
        ctx.save_for_backward(hidden, cos, sin, q, k, v, attended, lse, middle, gate, up, *tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cos, sin, q, k, v, attended, lse, middle, gate, up, *tensors = ctx.saved_tensors
        plan: LayerPlan = ctx.plan
        weights = plan.weights.with_tensors(tensors)
        wanted = dict(zip(weights._fields, weights.grouped(ctx.needs_input_grad[4:]), strict=True))

        # the MLP
        product, d_gate, d_up = glu_backward(gate, up, weights.down.input_grad(grad, None), plan.activation)
        d_down = weights.down.weight_grads(product, grad, wanted["down"])
        del product
        y = weights.mlp_norm(middle)
        d_gates = weights.gate.weight_grads(y, d_gate, wanted["gate"])
        d_ups = weights.up.weight_grads(y, d_up, wanted["up"])
        d_y = weights.up.input_grad(d_up, weights.gate.input_grad(d_gate, None)).to(middle.dtype)
        del d_up, d_gate, y
        d_middle, d_mlp_norm = weights.mlp_norm.backward(middle, d_y)
        d_middle += grad

        # the attention
        d_o = weights.o.weight_grads(attended.flatten(1), d_middle, wanted["o"])
        d_attended = plan.heads(weights.o.input_grad(d_middle, None))
        rotated: tuple[Tensor, Tensor] = (q, k) if weights.q_norm is None else plan.rotated(q, k, cos, sin)
        d_q, d_k, d_v = attention.backward(d_attended, *rotated, v, attended, lse, plan.layout, plan.scale)
        d_q = rope(d_q, plan.select(cos), -plan.select(sin))
        d_k = rope(d_k, cos, -sin)
        d_head_norms: list[list[Tensor]] = []
        if weights.q_norm is not None and weights.k_norm is not None:
            (d_q, d_q_norm), (d_k, d_k_norm) = (
                weights.q_norm.backward(q, d_q),
                weights.k_norm.backward(k, d_k),
            )
            d_head_norms = [[d_q_norm], [d_k_norm]]
        d_q, d_k, d_v = (d.flatten(1) for d in (d_q, d_k, d_v))
        x = weights.input_norm(hidden)
        d_projections = [
            linear.weight_grads(y, d, want)
            for linear, y, d, want in (
                (weights.q, plan.select(x), d_q, wanted["q"]),
                (weights.k, x, d_k, wanted["k"]),
                (weights.v, x, d_v, wanted["v"]),
            )
        ]
        d_hidden, d_input_norm = None, None
        if ctx.needs_input_grad[0] or wanted["input_norm"][0]:
            d_x = weights.v.input_grad(d_v, weights.k.input_grad(d_k, None)).to(hidden.dtype)
            if plan.kept is None:
                d_x = weights.q.input_grad(d_q, d_x)
            else:
                d_x.index_add_(0, plan.kept, weights.q.input_grad(d_q, None).to(d_x.dtype))
            d_hidden, d_input_norm = weights.input_norm.backward(hidden, d_x)
            d_hidden = (
                d_hidden.add_(d_middle) if plan.kept is None else d_hidden.index_add_(0, plan.kept, d_middle)
            )
        grads: list[Sequence[Tensor | None]] = [[d_input_norm], *d_projections, *d_head_norms, d_o]
        grads += [[d_mlp_norm], d_gates, d_ups, d_down]
        return d_hidden, None, None, None, *(d for part in grads for d in part)


class DecoderLayers:
    """A backbone's decoder layers, run by the kernels of this file instead of their modules.

    Structure is checked here; numerical equality is probed by the caller. Raises UnsupportedLayer naming the first
    part that does not fit.
    """

    def __init__(self, backbone: Any) -> None:
        self.layers = list(getattr(backbone, "layers", None) or [])
        if not self.layers:
            raise UnsupportedLayer("no layers")
        for layer in self.layers:
            check_structure(layer)
        norm = self.layers[0].input_layernorm
        if not isinstance(getattr(norm, "weight", None), Tensor):
            raise UnsupportedLayer(f"the norm {type(norm).__name__} has no weight")
        ones = torch.ones_like(norm.weight)
        # Gemma's norms scale by 1 + weight
        self.offset = float(round(float((norm(ones) - norm.weight).detach()[0])))
        self.activation = activation_name(self.layers[0].mlp.act_fn)
        for layer in self.layers:
            self.weights(layer, None)

    def weights(self, layer: Any, compute_dtype: torch.dtype | None) -> LayerWeights:
        """The layer's weights as its modules hold them now."""
        a, norm = layer.self_attn, partial(rms_norm_of, offset=self.offset)
        q, k, v, o, gate, up, down = (
            lora_linear_of(module, compute_dtype) for module in linear_modules(layer)
        )
        q_norm, k_norm = (
            norm(getattr(a, name)) if hasattr(a, name) else None for name in ("q_norm", "k_norm")
        )
        input_norm, mlp_norm = norm(layer.input_layernorm), norm(layer.post_attention_layernorm)
        return LayerWeights(input_norm, q, k, v, q_norm, k_norm, o, mlp_norm, gate, up, down)

    @contextmanager
    def reading(self, layout: Layout, kept: Tensor, *, recompute: bool = False) -> Iterator[None]:
        """Context manager: the backbone temporarily runs these kernels on a packed row of this layout.

        Its last layer returns the states [1, S', D] of the places `kept` [S'] only.

        recompute    layers keep their inputs alone, and compute their forward again in the backward.
        """
        pruned_layout = replace(layout, kept=tuple(kept.tolist()))
        with ExitStack() as stack:
            for layer in self.layers:
                is_last = layer is self.layers[-1]
                layer.forward = partial(
                    self._run,
                    layer,
                    pruned_layout if is_last else layout,
                    kept if is_last else None,
                    recompute,
                )  # an attribute of the object, before the method of its class
                stack.callback(delattr, layer, "forward")
            yield

    def _run(
        self,
        layer: Any,
        layout: Layout,
        kept: Tensor | None,
        recompute: bool,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        """A decoder layer's `forward` as transformers calls it. Raises Unpackable for a mask or a short window."""
        attn = layer.self_attn
        window = getattr(attn, "sliding_window", getattr(attn.config, "sliding_window", None))
        if attention_mask is not None or len(hidden_states) != 1 or (window and window < layout.longest):
            raise Unpackable(
                f"attention with {f'a window of {window} tokens' if window else 'a mask or several rows'}"
            )
        device = hidden_states.device.type
        compute_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        weights = self.weights(layer, compute_dtype)
        plan = LayerPlan(weights.detached(), attn.head_dim, attn.scaling, self.activation, layout, kept)
        cos, sin = (x[0, :, None] for x in position_embeddings)
        apply: Callable[..., Tensor] = _DecoderLayer.apply
        inputs = (hidden_states[0], cos, sin, plan, *weights.tensors())
        if recompute and torch.is_grad_enabled():
            out: Tensor = checkpoint(apply, *inputs, use_reentrant=False, preserve_rng_state=False)
            return out[None]
        return apply(*inputs)[None]
