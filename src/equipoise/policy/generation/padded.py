"""The plain way to continue prompts, for models whose attention cannot share them.

Left-padded prompts, transformers' own cache, repeated for every sample. It takes any decoder that transformers
can generate with, and it is what the shared way must agree with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.data.collate import Ids
from equipoise.policy.generation.scheduler import Step


class PaddedDecoder:
    """As `cache.SharedPrefixCache`, but a batch begins together: no prompt enters while another is written for."""

    refills = False

    def __init__(self, model: Any, groups: int, count: int, width: int, depth: int) -> None:
        self.model, self.count = model, count
        self.cache: Any = None

    def enter(self, groups: Sequence[int], prompts: Sequence[Ids]) -> None:
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

    def keep(self, groups: Sequence[int]) -> None:
        """Forget all groups but these, which are numbered anew."""
        rows = (
            torch.arange(len(self.mask), device=self.mask.device).view(-1, self.count)[list(groups)].flatten()
        )
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]

    def next(self, step: Step) -> Tensor:
        """Logits [R, V]; rows that are done go on with their neighbours, and nobody looks at them."""
        every = step.tokens.new_zeros(len(self.mask))
        every[step.rows] = step.tokens
        position = torch.zeros_like(every)
        position[step.rows] = step.positions
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(every), 1)], dim=1)
        out = self.model(
            input_ids=every[:, None],
            attention_mask=self.mask,
            position_ids=position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[step.rows, -1]
        return logits
