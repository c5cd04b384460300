"""What a learned reward reads of text: hidden states of a frozen policy, averaged over each response's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.data.collate import collate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.portions import Pair
from equipoise.policy.scorer import backbone


@torch.no_grad()
def mean_hidden(policy: CausalPolicy, comparisons: Sequence[Pair], batch: int) -> Float[Tensor, "N K F"]:
    """Last hidden states after each response token, averaged; prompt and lead are read, not averaged. On the CPU."""
    parts = []
    for begin in range(0, len(comparisons), batch):
        chosen = comparisons[begin : begin + batch]
        tokens = collate([prompt for prompt, _ in chosen], [list(group) for _, group in chosen], policy.pad)
        tokens = tokens.to(policy.device)
        hidden = backbone(policy.model)(
            input_ids=tokens.ids, attention_mask=tokens.attention, use_cache=False
        ).last_hidden_state
        scored = tokens.scored.unsqueeze(2)
        mean = (hidden * scored).sum(dim=1) / scored.sum(dim=1)
        parts.append(mean.view(*tokens.shape, -1).float().cpu())
    return torch.cat(parts)
