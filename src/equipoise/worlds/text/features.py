"""Mean-pooled hidden states of a frozen policy: the input features of a learned reward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.data.collate import Response, ScoredIds, gathered, laid_out
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import Comparison, microbatches


def mean_hidden(
    policy: CausalPolicy, comparisons: Sequence[Comparison], batch: int | None
) -> Float[Tensor, "N K F"]:
    """Mean last hidden state over each response's tokens; prompt and lead are context, not averaged. On the CPU.

    batch    maximal number of comparisons per forward pass; None: as many as the policy's token budget allows.
    """
    shifted = [(prompt, [_one_later(response) for response in group]) for prompt, group in comparisons]
    means: dict[int, Tensor] = {}
    for places in microbatches(policy, shifted, batch):
        tokens = policy.batch([shifted[i][0] for i in places], [shifted[i][1] for i in places])
        states, mask = policy.features(tokens)
        mean = states.sum(dim=2) / mask.sum(dim=2, keepdim=True)  # states are 0 where there is no token
        means.update(zip(places, mean.float().cpu(), strict=True))
    return torch.stack([means[i] for i in range(len(comparisons))])


def _one_later(response: ScoredIds) -> Response:
    """Shift a response by one token, so that the scored positions are the states after its own tokens: its first
    token moves into the lead, and an arbitrary token follows its last."""
    tokens, scored = laid_out(response)
    return gathered((*tokens, tokens[-1]), (False, *scored))
