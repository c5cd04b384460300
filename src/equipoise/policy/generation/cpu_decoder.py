"""CPU decoding of Llama-style models (Llama, Qwen 2 and 3, Mistral, Gemma 1) as bare matrix products.

With few rows a decoding step spends its time on reading weights, which oneDNN reorders in every call, and on Python. So
weights are packed once for each call of `sample`, adapters merged; projections of the same states are one product;
prompts are prefilled end to end without padding, and their last layer computes keys and values only, as its states are
not needed. Norms, rotary embeddings' angles and activations are the model's own modules.
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
from equipoise.policy.generation.prefix_cache import MIN_PREFILL, SharedPrefixCache
from equipoise.policy.generation.scheduler import DecodeStep
from equipoise.policy.kernels.attention import packed_attention
from equipoise.policy.kernels.elementwise import rope
from equipoise.policy.kernels.linear import UnsupportedLayer, check_structure, linear_modules, lora_linear_of
from equipoise.policy.kernels.segment_layout import Layout
from equipoise.policy.scorer import backbone, causal_lm, head_is_linear

MEMORY_SHARE = 0.5  # of the memory that weights and optimizer leave, at most for packed copies of the weights
MIN_PACKED = 2**19  # elements; smaller weights stay in a core's own cache and gain nothing
ROW_MULTIPLE = 16  # rows are padded to it, because oneDNN compiles a program for every new number of rows

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor | None]


class PackedLinear:
    """Linear layers of the same input as one: x -> x [W_1; W_2; ...]^T + [b_1; b_2; ...].

    Weights are packed (reordered by oneDNN) once for `rows` rows, where torch can.
    """

    def __init__(self, parts: Sequence[Any], rows: int) -> None:
        linears = [lora_linear_of(part, None) for part in parts]
        weights = [each.merged_weight for each in linears]
        self.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weights[0].dtype
        weight = (torch.cat(weights) if len(weights) > 1 else weights[0].detach()).to(self.dtype)
        biases = [each.bias for each in linears]
        self.bias = None
        if any(bias is not None for bias in biases):
            filled = [w.new_zeros(len(w)) if b is None else b for w, b in zip(weights, biases, strict=True)]
            self.bias = torch.cat(filled).to(self.dtype)
        self.product = partial(linear, weight=weight, bias=self.bias)
        if self.dtype == torch.float32 and weight.numel() >= MIN_PACKED and _can_pack():
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            self.product = partial(_packed_linear, weight=packed, bias=self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x.to(self.dtype))


def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = len(x)
    if rows % ROW_MULTIPLE:
        x = pad(x, (0, 0, 0, -rows % ROW_MULTIPLE))
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out[:rows]


def _can_pack() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def why_unsupported(model: Any) -> str | None:
    """Why CPU decoding does not support the model, based on its module structure and size; None if it does.

    Structure is checked here; numerical equality is probed by the caller.
    """
    if model.device.type != "cpu":
        return "it is not on a CPU"
    base = backbone(model)
    layers = list(getattr(base, "layers", []))
    try:
        for layer in layers:
            check_structure(layer)
        modules = [
            causal_lm(model).get_output_embeddings(),
            *(m for layer in layers for m in linear_modules(layer)),
        ]
        for module in modules:
            lora_linear_of(module, None)
    except UnsupportedLayer:
        return "its layers do not have the common structure"
    if not layers or not hasattr(base, "rotary_emb"):
        return "its layers do not have the common structure"
    if not head_is_linear(model):
        return "its head is not a plain linear map"
    if getattr(base.rotary_emb, "rope_type", "default") in ("dynamic", "longrope"):
        return "its rotary embeddings depend on the batch"
    if hasattr(os, "sysconf"):  # Windows does not say
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        free = memory - sum(p.nbytes + 12 * p.numel() * p.requires_grad for p in model.parameters())
        if sum(4 * m.in_features * m.out_features for m in modules) > MEMORY_SHARE * free:
            return "there is no memory for a packed copy of its weights"
    return None


class CpuLayer:
    """A decoder layer with packed weights for `rows` rows."""

    def __init__(self, layer: Any, rows: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.before, self.after, self.activation = (
            layer.input_layernorm,
            layer.post_attention_layernorm,
            mlp.act_fn,
        )
        self.norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        self.size, self.scale = attention.head_dim, attention.scaling
        self.heads = [part.out_features // self.size for part in (attention.q_proj, attention.k_proj)]
        self.project = PackedLinear([attention.q_proj, attention.k_proj, attention.v_proj], rows)
        self.out = PackedLinear([attention.o_proj], rows)
        self.widen = PackedLinear([mlp.gate_proj, mlp.up_proj], rows)
        self.narrow = PackedLinear([mlp.down_proj], rows)

    def queries_keys_values(self, states: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys after RoPE, and values, [R, heads, D] each."""
        projected = self.project(self.before(states)).unflatten(-1, (-1, self.size))
        queries, keys = self.heads
        both, values = projected[:, : queries + keys], projected[:, queries + keys :]
        if self.norms[0] is not None and self.norms[1] is not None:
            parts = both.split(self.heads, 1)
            both = torch.cat([norm(x) for norm, x in zip(self.norms, parts, strict=True) if norm], 1)
        rotated = rope(both, cos, sin)
        return rotated[:, :queries], rotated[:, queries:], values

    def add_mlp(self, states: Tensor) -> Tensor:
        gate, up = self.widen(self.after(states)).chunk(2, -1)
        return states + self.narrow(self.activation(gate) * up)


class CpuDecoder:
    """A model's weights as they are now, packed for `rows` rows."""

    def __init__(self, model: Any, rows: int) -> None:
        base = backbone(model)
        self.embed, self.rotary, self.norm = base.embed_tokens, base.rotary_emb, base.norm
        self.layers = [CpuLayer(layer, rows) for layer in base.layers]
        self.head = PackedLinear([causal_lm(model).get_output_embeddings()], rows)

    def __call__(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor | None:
        """Logits [R, V] of R tokens; None as soon as `attend` returns None, which says that they are not needed."""
        states = self.embed(ids)
        cos, sin = (x[0, :, None] for x in self.rotary(states[None], positions[None]))
        for number, layer in enumerate(self.layers):
            attended = attend(number, *layer.queries_keys_values(states, cos, sin))
            if attended is None:
                return None
            states = layer.add_mlp(states + layer.out(attended.flatten(1)))
        return self.head(self.norm(states))


class CpuPrefixCache:
    """Prefix-sharing backend for Llama-style models on a CPU. Weights are packed at the first prefill.

    Prompts longer than a sliding window are prefilled by the shared backend, whose cache both write.
    """

    refills = True

    def __init__(self, model: Any, groups: int, count: int, width: int, depth: int) -> None:
        self.shared = SharedPrefixCache(model, groups, count, width, depth)
        self.model, self.cache, self.windows = model, self.shared.cache, self.shared.windows
        self.decoder: CpuDecoder | None = None

    def prefill(self, groups: Sequence[int], prompts: Sequence[Ids]) -> None:
        if self.decoder is None:  # not before: autocast decides in which precision
            self.decoder = CpuDecoder(self.model, self.cache.groups * self.cache.count)
        lengths = [max(1, len(prompt) - 1) for prompt in prompts]
        if min(filter(None, self.windows), default=max(lengths)) < max(lengths):
            self.shared.prefill(groups, prompts)
            return
        for part in shares(lengths, MIN_PREFILL):
            self._prefill(self.decoder, groups[part], [prompt[:-1] or prompt for prompt in prompts[part]])

    def _prefill(self, decoder: CpuDecoder, groups: Sequence[int], rows: Sequence[Ids]) -> None:
        lengths = [len(row) for row in rows]
        group = torch.tensor(groups).repeat_interleave(torch.tensor(lengths))
        place = torch.cat([torch.arange(length) for length in lengths])
        layout = Layout(tuple((length, ()) for length in lengths), place.device)

        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
            self.cache.write_prompt_tokens(number, group, place, key, value)
            last = number + 1 == len(decoder.layers)
            return None if last else packed_attention(query, key, value, layout, decoder.layers[number].scale)

        decoder(torch.tensor([i for row in rows for i in row]), place, attend)

    def keep_groups(self, groups: Sequence[int]) -> None:
        self.shared.keep_groups(groups)

    def decode(self, step: DecodeStep) -> Tensor:
        cache, decoder = self.cache, self.decoder
        assert decoder is not None
        cache.begin_step(step)
        kept, each = step.distinct

        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            cache.write(number, key[each], value[each])
            attended = cache.attend(
                query[each], number, decoder.layers[number].scale, self.windows[number], None
            )
            return attended[kept]

        logits = decoder(step.tokens[kept], step.positions[kept], attend)
        assert logits is not None
        return logits[each]
