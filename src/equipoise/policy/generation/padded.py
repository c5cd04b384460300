"""Padded decoding: the fallback backend, for models whose attention cannot share prompts.

Left-padded prompts in transformers' own KV cache, repeated for every sample. It takes any decoder that transformers
can generate with, and it is what the prefix-sharing backends must agree with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.data.collate import Ids
from equipoise.policy.generation.scheduler import DecodeStep


class PaddedDecoder:
    """Padded decoding with the interface of `prefix_cache.SharedPrefixCache`, for static batches only.

    A batch begins together: no prompt is prefilled while another is decoded.
    """

    refills = False

    def __init__(self, model: Any, groups: int, count: int, width: int, depth: int) -> None:
        self.model, self.count = model, count
        self.cache: Any = None

    def prefill(self, groups: Sequence[int], prompts: Sequence[Ids]) -> None:
        width = max(1, *(len(prompt) - 1 for prompt in prompts))
        missing = [width - len(prompt) + 1 for prompt in prompts]
        rows = [prompt[-1:] * n + prompt[:-1] for n, prompt in zip(missing, prompts, strict=True)]
        ids = torch.tensor(rows, device=self.model.device)
        mask = torch.tensor([[0] * n + [1] * (width - n) for n in missing])
        self.mask = mask.to(self.model.device)
        out = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=(self.mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = out.past_key_values
        self.cache.batch_repeat_interleave(self.count)
        self.mask = self.mask.repeat_interleave(self.count, 0)

    def keep_groups(self, groups: Sequence[int]) -> None:
        """Drop all groups but these, which are renumbered in order."""
        rows = (
            torch.arange(len(self.mask), device=self.mask.device).view(-1, self.count)[list(groups)].flatten()
        )
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]

    def decode(self, step: DecodeStep) -> Tensor:
        """Logits [R, V] after one more token in every row; finished rows are computed along and discarded."""
        all_tokens = step.tokens.new_zeros(len(self.mask))
        all_tokens[step.rows] = step.tokens
        all_positions = torch.zeros_like(all_tokens)
        all_positions[step.rows] = step.positions
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(all_tokens), 1)], dim=1)
        out = self.model(
            input_ids=all_tokens[:, None],
            attention_mask=self.mask,
            position_ids=all_positions[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[step.rows, -1]
        return logits
