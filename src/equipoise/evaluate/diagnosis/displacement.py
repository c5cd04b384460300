"""Likelihood displacement: how far training moved both log-probs of a pair, and which tokens took the mass.

Source: Razin et al. 2024, 2410.08847.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.data.collate import collate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.live_reference import next_token_distribution
from equipoise.policy.scoring.microbatch import Comparison

CHUNK = 256  # places whose distributions over the vocabulary are held at once


@torch.no_grad()
def next_token_mass(policy: CausalPolicy, comparisons: Sequence[Comparison], column: int = 0) -> Tensor:
    """[V] mean next-token probability over all places that predict a token of one response of each comparison.

    Of two policies with one vocabulary the difference says which tokens gained and lost at the preferred responses. In
    float64, on the CPU.
    """
    total, places = torch.zeros((), dtype=torch.float64), 0
    for prompt, responses in comparisons:
        batch = collate([prompt], [[responses[column]]], policy.pad).to(policy.device)
        found = next_token_distribution(policy.scorer, batch)
        for begin in range(0, len(found.states), CHUNK):
            logits = found.logits(slice(begin, begin + CHUNK))
            total = total + logits.float().softmax(dim=-1).sum(dim=0).double().cpu()
        places += len(found.states)
    return total / max(places, 1)
