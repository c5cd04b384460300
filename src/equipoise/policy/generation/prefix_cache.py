"""Prefix sharing: a KV cache with one copy of a prompt's keys and values for all its samples.

Prompts that are being continued are groups; the K samples of group g are the slots g*K to g*K + K - 1. A group's prompt
is prefilled once; the scores of its K queries on the prompt's keys are one matrix product, those on each sample's own
keys another:

    softmax([q . prompt keys, q . own keys]) = one distribution over both, so nothing is approximated.

The model stays Hugging Face's: only its attention is exchanged during a decoding step, and its cache is this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache

from equipoise.data.collate import Ids
from equipoise.policy.generation.scheduler import DecodeStep

NAME = "equipoise_shared"  # of the attention, in transformers' table
INITIAL_DEPTH = 32  # own tokens that a slot has space for at first; doubled when they are full
MIN_PREFILL = 1024  # tokens that make a forward pass worth its overhead


class PrefixKVCache(Cache):
    """KV cache of `groups` prompts with `count` samples each, preallocated.

    width    tokens of the longest prompt to prefill.      depth    tokens of the longest response.
    """

    def __init__(self, groups: int, count: int, width: int, depth: int) -> None:
        super().__init__(layers=[])
        self.groups, self.count = groups, count
        self.width, self.depth = max(width, 1), depth
        self.prompt: list[list[Tensor]] = []  # for each layer: keys, values [P, Hkv, width, D]
        self.own: list[list[Tensor]] = []  # for each layer: keys, values [P*K, Hkv, space, D]
        self.step: DecodeStep | None = None
        self.windows: dict[int, int | None] = {}

    def write_prompts(self, groups: Sequence[int], prefilled: DynamicCache) -> None:
        """Copy the keys and values of prefilled, right-padded prompts to `groups`."""
        for index, layer in enumerate(prefilled.layers):
            # transformers types a layer's keys and values as absent, which they are before the first read only
            keys: Tensor = layer.keys  # type: ignore[union-attr, assignment]
            values: Tensor = layer.values  # type: ignore[union-attr, assignment]
            heads, width = keys.shape[1:3]
            self._allocate(index, heads, keys.shape[3], values)
            where = torch.tensor(groups, device=keys.device)
            for states, new in zip(self.prompt[index], (keys, values), strict=True):
                states[:, :, :width].index_copy_(0, where, new.to(states.dtype))

    def write_prompt_tokens(
        self, layer: int, groups: Tensor, places: Tensor, keys: Tensor, values: Tensor
    ) -> None:
        """Copy keys and values [S, Hkv, D] of prompts prefilled end to end: token s is places[s] of groups[s]."""
        self._allocate(layer, keys.shape[1], keys.shape[2], values)
        for states, new in zip(self.prompt[layer], (keys, values), strict=True):
            states[groups, :, places] = new.to(states.dtype)

    def _allocate(self, layer: int, heads: int, size: int, values: Tensor) -> None:
        """Allocate a layer in the dtype of its values: under autocast keys after RoPE are wider."""
        if layer < len(self.prompt):
            return
        sizes, space = (size, values.shape[-1]), min(INITIAL_DEPTH, self.depth)
        self.prompt.append([values.new_zeros(self.groups, heads, self.width, n) for n in sizes])
        self.own.append([values.new_zeros(self.groups * self.count, heads, space, n) for n in sizes])

    def keep_groups(self, groups: Sequence[int]) -> None:
        """Drop all groups but these, which are renumbered in order."""
        self.groups = len(groups)
        for kept, repeat in ((self.prompt, 1), (self.own, self.count)):
            for layer in kept:
                where = torch.tensor(groups, device=layer[0].device)
                where = (where[:, None] * repeat + torch.arange(repeat, device=where.device)).flatten()
                layer[:] = [states[where] for states in layer]

    def begin_step(self, step: DecodeStep) -> None:
        """Set the step that `write` and `attend` refer to, and make space for its tokens."""
        self.step = step
        for layer in self.own:
            for part, states in enumerate(layer):
                if states.shape[2] < step.depth:
                    more = min(2 * states.shape[2], self.depth) - states.shape[2]
                    layer[part] = torch.cat([states, torch.zeros_like(states[:, :, :more])], 2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions are given to the model, and masks are made here

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.write(layer_idx, key_states[:, :, 0], value_states[:, :, 0])
        return key_states, value_states

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Append the step's keys and values [R, Hkv, D], one token for each row."""
        step = self.step
        assert step is not None
        for states, new in zip(self.own[layer], (keys, values), strict=True):
            if step.all_active and len(set(step.own_lengths)) == 1:
                states[:, :, step.own_lengths[0]] = new
            else:
                states[step.rows, :, step.row_own_lengths] = new.to(states.dtype)

    def attend(
        self, query: Tensor, layer: int, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        """Attention of the step's queries [R, H, D] on prompt and own keys -> [R, H, D].

        window    of a sliding-window layer.      cap    soft cap c of the scores: c tanh(s / c).
        """
        step, keys = self.step, self.prompt[layer][0]
        assert step is not None
        self.windows[layer] = window
        heads, size = query.shape[1:]
        groups, count, shared = self.groups, self.count, keys.shape[1]
        query = query.to(keys.dtype) * scale
        if not step.all_active:  # finished slots are computed along as zeros
            query = query.new_zeros(groups * count, heads, size).index_copy_(0, step.rows, query)
        query = query.view(groups, count, shared, heads // shared, size)
        runs = [self._attend_run(query[run], run, layer, step, window, cap) for run in step.runs]
        out = runs[0] if len(runs) == 1 else torch.cat(runs)
        out = out.reshape(groups * count, heads, -1)
        return out if step.all_active else out[step.rows]

    def _attend_run(
        self, query: Tensor, run: slice, layer: int, step: DecodeStep, window: int | None, cap: float | None
    ) -> Tensor:
        """Attention of the queries [P, K, Hkv, G, D] of a run of groups."""
        groups, count = query.shape[:2]
        width, depth = max(step.prefix_lengths[run]), max(step.own_lengths[run]) + 1
        slots = slice(run.start * count, run.stop * count)
        keys, values = (states[run, :, :width] for states in self.prompt[layer])
        own_keys, own_values = (states[slots, :, :depth] for states in self.own[layer])
        grouped = query.transpose(1, 2).flatten(2, 3)  # [P, Hkv, K * G, D]
        scores = torch.cat(
            [
                (grouped @ keys.mT).unflatten(2, (count, -1)),
                (query.flatten(0, 1) @ own_keys.mT).unflatten(0, (groups, count)).transpose(1, 2),
            ],
            dim=-1,
        )
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if cap is not None:
            scores = cap * (scores / cap).tanh()
        bias = step.bias(run, window)
        weights = (scores if bias is None else scores.add_(bias)).softmax(-1).to(values.dtype)
        on_prompt, on_own = weights.split([width, depth], dim=-1)
        from_prompt = (on_prompt.flatten(2, 3) @ values).unflatten(2, (count, -1))
        from_own = on_own.transpose(1, 2).flatten(0, 1) @ own_values
        return from_prompt.transpose(1, 2) + from_own.unflatten(0, (groups, count))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    shared: PrefixKVCache | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Prefix-sharing attention as transformers calls it; `shared` is the cache that was passed to the model.

    Raises TypeError for an attention with a mask, sinks or biases, which this cache does not support.
    """
    unknown = [name for name in ("s_aux", "position_bias", "head_mask") if rest.get(name) is not None]
    if shared is None or attention_mask is not None or unknown:
        raise TypeError(f"attention that cannot share prompts: {', '.join(unknown) or 'a mask or no cache'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return shared.attend(query[:, :, 0], layer, scale, sliding_window, softcap)[:, None], None


AttentionInterface.register(NAME, attention)


class SharedPrefixCache:
    """Prefix-sharing backend: decodes several samples of many prompts on one `PrefixKVCache`."""

    refills = True  # prompts enter free groups, and finished rows leave, at any step

    def __init__(self, model: Any, groups: int, count: int, width: int, depth: int) -> None:
        self.model, self.windows = model, windows_of(model)
        self.cache = PrefixKVCache(groups, count, width, depth)

    def prefill(self, groups: Sequence[int], prompts: Sequence[Ids]) -> None:
        """Read prompts into `groups`: all tokens but the last, which is every sample's first step."""
        for part in _similar_lengths([len(prompt) - 1 for prompt in prompts]):
            width = max(1, *(len(prompt) - 1 for prompt in prompts[part]))
            # padding on the right: causal attention never reads it, so it needs no mask
            rows = [prompt[:-1] + prompt[-1:] * (width - len(prompt) + 1) for prompt in prompts[part]]
            prefilled = DynamicCache()
            ids = torch.tensor(rows, device=self.model.device)
            self.model(input_ids=ids, past_key_values=prefilled, use_cache=True, logits_to_keep=1)
            self.cache.write_prompts(groups[part], prefilled)

    def keep_groups(self, groups: Sequence[int]) -> None:
        self.cache.keep_groups(groups)

    def decode(self, step: DecodeStep) -> Tensor:
        """Logits [R, V] after one more token in every row."""
        self.cache.begin_step(step)
        with _using_attention(self.model, NAME):
            out = self.model(
                input_ids=step.tokens[:, None],
                position_ids=step.positions[:, None],
                past_key_values=self.cache,
                use_cache=True,
                shared=self.cache,
            )
        logits: Tensor = out.logits[:, -1]
        return logits


def windows_of(model: Any) -> list[int | None]:
    """Sliding window of each layer by the configuration; None: full attention."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kind = "sliding_attention" if window else "full_attention"
    kinds = getattr(config, "layer_types", None) or [kind] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _similar_lengths(lengths: Sequence[int]) -> list[slice]:
    """Runs of prompts that one forward pass prefills: few tokens, or nearly equal lengths."""
    parts, begin = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (
            (end - begin) * lengths[begin] >= MIN_PREFILL and lengths[end] < 0.9 * lengths[begin]
        ):
            parts.append(slice(begin, end))
            begin = end
    return parts


@contextmanager
def _using_attention(model: Any, name: str) -> Iterator[None]:
    """Context manager: temporarily use another attention, by its name in transformers' table."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
