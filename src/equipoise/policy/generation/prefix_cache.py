"""One copy of a prompt's keys and values for all its samples.

Prompts in flight are groups; the K samples of group g are the slots g*K to g*K + K - 1. A group's prompt is read
by the model once; its K queries meet its keys in one product, and what a sample wrote itself in another:

    softmax([q . prompt keys, q . own keys]) = one distribution over both, so nothing is approximated.

The model stays Hugging Face's: its attention is exchanged while it takes a step, and its cache is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache

from equipoise.data.collate import Ids
from equipoise.policy.generation.scheduler import Step

NAME = "equipoise_shared"  # of the attention, in transformers' table
FIRST = 32  # own tokens a slot has room for at first
ENOUGH = 1024  # tokens that make a pass worth its overhead


class SharedCache(Cache):
    """Keys and values of `groups` prompts with `count` samples each, preallocated."""

    def __init__(self, groups: int, count: int, width: int, depth: int) -> None:
        super().__init__(layers=[])
        self.groups, self.count = groups, count
        self.width, self.depth = max(width, 1), depth
        self.prompt: list[list[Tensor]] = []  # of each layer: keys, values [P, Hkv, width, D]
        self.own: list[list[Tensor]] = []  # of each layer: keys, values [P*K, Hkv, room, D]
        self.step: Step | None = None
        self.windows: dict[int, int | None] = {}

    def enter(self, groups: Sequence[int], found: DynamicCache) -> None:
        """Prompts that were read (right-padded) take the places of `groups`."""
        for index, layer in enumerate(found.layers):
            heads, width = layer.keys.shape[1:3]
            self._room_for(index, heads, layer.keys.shape[3], layer.values)
            where = torch.tensor(groups, device=layer.keys.device)
            for states, new in zip(self.prompt[index], (layer.keys, layer.values), strict=True):
                states[:, :, :width].index_copy_(0, where, new.to(states.dtype))

    def place(self, layer: int, groups: Tensor, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Tokens [S, Hkv, D] of prompts that were read end to end: token s is number places[s] of group groups[s]."""
        self._room_for(layer, keys.shape[1], keys.shape[2], values)
        for states, new in zip(self.prompt[layer], (keys, values), strict=True):
            states[groups, :, places] = new.to(states.dtype)

    def _room_for(self, layer: int, heads: int, size: int, values: Tensor) -> None:
        """Under autocast rotated keys are wider than values, which say the precision of both."""
        if layer < len(self.prompt):
            return
        sizes, room = (size, values.shape[-1]), min(FIRST, self.depth)
        self.prompt.append([values.new_zeros(self.groups, heads, self.width, n) for n in sizes])
        self.own.append([values.new_zeros(self.groups * self.count, heads, room, n) for n in sizes])

    def keep(self, groups: Sequence[int]) -> None:
        """Forget all groups but these, which are numbered anew."""
        self.groups = len(groups)
        for kept, repeat in ((self.prompt, 1), (self.own, self.count)):
            for layer in kept:
                where = torch.tensor(groups, device=layer[0].device)
                where = (where[:, None] * repeat + torch.arange(repeat, device=where.device)).flatten()
                layer[:] = [states[where] for states in layer]

    def begin(self, step: Step) -> None:
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
        """[R, Hkv, D] what the rows of the step add to their own."""
        step = self.step
        assert step is not None
        for states, new in zip(self.own[layer], (keys, values), strict=True):
            if step.whole and len(set(step.age)) == 1:
                states[:, :, step.age[0]] = new
            else:
                states[step.rows, :, step.ages] = new.to(states.dtype)

    def attend(
        self, query: Tensor, layer: int, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        """[R, H, D] queries of the rows -> [R, H, D] what they attend to."""
        step, keys = self.step, self.prompt[layer][0]
        assert step is not None
        self.windows[layer] = window
        heads, size = query.shape[1:]
        groups, count, shared = self.groups, self.count, keys.shape[1]
        query = query.to(keys.dtype) * scale
        if not step.whole:  # slots that are done take part as zeros
            query = query.new_zeros(groups * count, heads, size).index_copy_(0, step.rows, query)
        query = query.view(groups, count, shared, heads // shared, size)
        runs = [self._over(query[run], run, layer, step, window, cap) for run in step.runs]
        out = runs[0] if len(runs) == 1 else torch.cat(runs)
        out = out.reshape(groups * count, heads, -1)
        return out if step.whole else out[step.rows]

    def _over(
        self, query: Tensor, run: slice, layer: int, step: Step, window: int | None, cap: float | None
    ) -> Tensor:
        """[P, K, Hkv, G, D] queries of a run of groups, over its prompts and what its samples wrote."""
        groups, count = query.shape[:2]
        width, depth = max(step.start[run]), max(step.age[run]) + 1
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
        seen = (on_prompt.flatten(2, 3) @ values).unflatten(2, (count, -1))
        written = on_own.transpose(1, 2).flatten(0, 1) @ own_values
        return seen.transpose(1, 2) + written.unflatten(0, (groups, count))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    shared: SharedCache | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it, answered by the cache that the model was handed as `shared`."""
    unknown = [name for name in ("s_aux", "position_bias", "head_mask") if rest.get(name) is not None]
    if shared is None or attention_mask is not None or unknown:
        raise TypeError(f"this attention is not of a kind that shares prompts {unknown or ''}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return shared.attend(query[:, :, 0], layer, scale, sliding_window, softcap)[:, None], None


AttentionInterface.register(NAME, attention)


class SharedPrefixCache:
    """A model that continues many prompts, each in several ways; see the head of this file."""

    refills = True  # groups come and go, rows leave at once

    def __init__(self, model: Any, groups: int, count: int, width: int, depth: int) -> None:
        self.model, self.windows = model, windows_of(model)
        self.cache = SharedCache(groups, count, width, depth)

    def enter(self, groups: Sequence[int], prompts: Sequence[Ids]) -> None:
        """Read prompts (all tokens but the last, which is every sample's first step) for `groups`."""
        for part in _alike([len(prompt) - 1 for prompt in prompts]):
            width = max(1, *(len(prompt) - 1 for prompt in prompts[part]))
            # padding stands on the right: causal attention never looks at it, so it needs no mask
            rows = [prompt[:-1] + prompt[-1:] * (width - len(prompt) + 1) for prompt in prompts[part]]
            found = DynamicCache()
            ids = torch.tensor(rows, device=self.model.device)
            self.model(input_ids=ids, past_key_values=found, use_cache=True, logits_to_keep=1)
            self.cache.enter(groups[part], found)

    def keep(self, groups: Sequence[int]) -> None:
        self.cache.keep(groups)

    def next(self, step: Step) -> Tensor:
        """Logits [R, V] after one more token in every row."""
        self.cache.begin(step)
        with _attention_of(self.model, NAME):
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
    """How far back each layer looks, by the configuration; None: to the beginning."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kind = "sliding_attention" if window else "full_attention"
    kinds = getattr(config, "layer_types", None) or [kind] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _alike(lengths: Sequence[int]) -> list[slice]:
    """Runs of prompts that are read together: few tokens, or of nearly the same length."""
    parts, begin = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (
            (end - begin) * lengths[begin] >= ENOUGH and lengths[end] < 0.9 * lengths[begin]
        ):
            parts.append(slice(begin, end))
            begin = end
    return parts


@contextmanager
def _attention_of(model: Any, name: str) -> Iterator[None]:
    """The model's attention by name in transformers' table, for a while."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
