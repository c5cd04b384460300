"""The common decoder (Llama, Qwen 2 and 3, Mistral, Gemma 1) as bare products, to sample from it on a processor.

With few rows a step's time goes into reading weights, which a product lays out anew in every call, and into Python.
So weights are laid out once for each call of `sample`, adapters folded in; projections that read the same states are
one product; prompts are read end to end without padding, and of their last layer nothing but keys and values, for
nobody looks at its states. Norms, rotations and activations are the model's own modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from equipoise.data.collate import Ids
from equipoise.data.pack import shares
from equipoise.policy.generation.prefix_cache import ENOUGH, SharedPrefixCache
from equipoise.policy.generation.scheduler import Step
from equipoise.policy.kernels.attention import packed_attention
from equipoise.policy.kernels.elementwise import rope
from equipoise.policy.kernels.linear import UnsupportedLayer, check_structure, linear_modules, lora_linear_of
from equipoise.policy.kernels.segment_layout import Layout
from equipoise.policy.scorer import backbone, causal_lm

SHARE = 0.5  # of the memory beside the weights that may hold another layout of them
LARGE = 2**19  # weights that a product does not keep in a core's own memory
STEP = 16  # rows

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor | None]


class Product:
    """x -> x [W_1; W_2; ...]^T + [b_1; b_2; ...], its weights laid out once for `rows` rows where torch can."""

    def __init__(self, parts: Sequence[Any], rows: int) -> None:
        maps = [lora_linear_of(part, None) for part in parts]
        weights = [found.merged_weight for found in maps]
        self.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weights[0].dtype
        weight = (torch.cat(weights) if len(weights) > 1 else weights[0].detach()).to(self.dtype)
        biases = [found.bias for found in maps]
        self.bias = None
        if any(bias is not None for bias in biases):
            filled = [w.new_zeros(len(w)) if b is None else b for w, b in zip(weights, biases, strict=True)]
            self.bias = torch.cat(filled).to(self.dtype)
        self.product = partial(linear, weight=weight, bias=self.bias)
        if self.dtype == torch.float32 and weight.numel() >= LARGE and _lays_out():
            laid = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            self.product = partial(_laid_out, weight=laid, bias=self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x.to(self.dtype))


def _laid_out(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = len(x)
    if rows % STEP:  # for every new number of rows a program is compiled
        x = pad(x, (0, 0, 0, -rows % STEP))
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found[:rows]


def _lays_out() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def reason_against(model: Any) -> str | None:
    """Why the model cannot be taken for the common decoder, by its looks and its size; the probe compares numbers."""
    if model.device.type != "cpu":
        return "it is not on a processor"
    base = backbone(model)
    layers = list(getattr(base, "layers", []))
    try:
        for layer in layers:
            check_structure(layer)
        modules = [
            causal_lm(model).get_output_embeddings(),
            *(m for layer in layers for m in linear_modules(layer)),
        ]
        weights = [lora_linear_of(module, None).weight for module in modules]
    except UnsupportedLayer:
        return "its layers are of another shape"
    if not layers or not hasattr(base, "rotary_emb"):
        return "its layers are of another shape"
    if getattr(base.rotary_emb, "rope_type", "default") in ("dynamic", "longrope"):
        return "its rotations depend on the batch"
    if hasattr(os, "sysconf"):  # Windows does not say
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        free = memory - sum((16 if p.requires_grad else 4) * p.numel() for p in model.parameters())
        if sum(4 * weight.numel() for weight in weights) > SHARE * free:
            return "there is no room for a second layout of its weights"
    return None


class Layer:
    def __init__(self, layer: Any, rows: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.before, self.after, self.activation = (
            layer.input_layernorm,
            layer.post_attention_layernorm,
            mlp.act_fn,
        )
        self.norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        self.size, self.scale = attention.head_dim, attention.scaling
        self.heads = [part.weight.shape[0] // self.size for part in (attention.q_proj, attention.k_proj)]
        self.project = Product([attention.q_proj, attention.k_proj, attention.v_proj], rows)
        self.out = Product([attention.o_proj], rows)
        self.widen = Product([mlp.gate_proj, mlp.up_proj], rows)
        self.narrow = Product([mlp.down_proj], rows)

    def attended(self, states: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, [R, heads, D] each."""
        found = self.project(self.before(states)).unflatten(-1, (-1, self.size))
        queries, keys = self.heads
        both, values = found[:, : queries + keys], found[:, queries + keys :]
        if self.norms[0] is not None and self.norms[1] is not None:
            parts = both.split(self.heads, 1)
            both = torch.cat([norm(x) for norm, x in zip(self.norms, parts, strict=True) if norm], 1)
        rotated = rope(both, cos, sin)
        return rotated[:, :queries], rotated[:, queries:], values

    def add_mlp(self, states: Tensor) -> Tensor:
        gate, up = self.widen(self.after(states)).chunk(2, -1)
        return states + self.narrow(self.activation(gate) * up)


class Decoder:
    """The model's weights as they are now, laid out for `rows` rows."""

    def __init__(self, model: Any, rows: int) -> None:
        base = backbone(model)
        self.embed, self.rotary, self.norm = base.embed_tokens, base.rotary_emb, base.norm
        self.layers = [Layer(layer, rows) for layer in base.layers]
        self.head = Product([causal_lm(model).get_output_embeddings()], rows)

    def __call__(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor | None:
        """[R, V] logits of R tokens, or None once `attend` says that nobody will look at them."""
        states = self.embed(ids)
        cos, sin = (x[0, :, None] for x in self.rotary(states[None], positions[None]))
        for number, layer in enumerate(self.layers):
            seen = attend(number, *layer.attended(states, cos, sin))
            if seen is None:
                return None
            states = layer.add_mlp(states + layer.out(seen.flatten(1)))
        return self.head(self.norm(states))


class CpuPrompts(SharedPrefixCache):
    """As `SharedPrefixCache`, for models of the common shape. Their weights are those of the first prompts' entry."""

    decoder: Decoder | None = None

    def enter(self, groups: Sequence[int], prompts: Sequence[Ids]) -> None:
        if self.decoder is None:  # not before: autocast decides in which precision
            self.decoder = Decoder(self.model, self.cache.groups * self.cache.count)
        lengths = [max(1, len(prompt) - 1) for prompt in prompts]
        if min(filter(None, self.windows), default=max(lengths)) < max(lengths):
            super().enter(groups, prompts)
            return
        for part in shares(lengths, ENOUGH):
            self._read(self.decoder, groups[part], [prompt[:-1] or prompt for prompt in prompts[part]])

    def _read(self, decoder: Decoder, groups: Sequence[int], rows: Sequence[Ids]) -> None:
        lengths = [len(row) for row in rows]
        group = torch.tensor(groups).repeat_interleave(torch.tensor(lengths))
        place = torch.cat([torch.arange(length) for length in lengths])
        layout = Layout(tuple((length, ()) for length in lengths), place.device)

        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
            self.cache.place(number, group, place, key, value)
            last = number + 1 == len(decoder.layers)
            return None if last else packed_attention(query, key, value, layout, decoder.layers[number].scale)

        decoder(torch.tensor([i for row in rows for i in row]), place, attend)

    def next(self, step: Step) -> Tensor:
        cache, decoder = self.cache, self.decoder
        assert decoder is not None
        cache.begin(step)
        kept, each = step.distinct

        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            cache.write(number, key[each], value[each])
            seen = cache.attend(query[each], number, decoder.layers[number].scale, self.windows[number], None)
            return seen[kept]

        logits = decoder(step.tokens[kept], step.positions[kept], attend)
        assert logits is not None
        return logits[each]
