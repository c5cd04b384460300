"""What a learned reward reads of text: hidden states of a frozen policy, averaged over each response's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.data.collate import Response, ScoredIds, lead_and_ids
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import Comparison, microbatches


def mean_hidden(
    policy: CausalPolicy, comparisons: Sequence[Comparison], batch: int | None
) -> Float[Tensor, "N K F"]:
    """Last hidden states after each response token, averaged; prompt and lead are read, not averaged. On the CPU.

    batch    comparisons through the model at a time, at most; None: as many as the policy's token budget allows.
    """
    shifted = [(prompt, [_one_later(response) for response in group]) for prompt, group in comparisons]
    found: dict[int, Tensor] = {}
    for places in microbatches(policy, shifted, batch):
        tokens = policy.batch([shifted[i][0] for i in places], [shifted[i][1] for i in places])
        states, mask = policy.features(tokens)
        mean = states.sum(dim=2) / mask.sum(dim=2, keepdim=True)  # states are 0 where there is no token
        found.update(zip(places, mean.float().cpu(), strict=True))
    return torch.stack([found[i] for i in range(len(comparisons))])


def _one_later(response: ScoredIds) -> Response:
    """The response whose tokens are predicted by the states after the given one's: its first token is read and not
    predicted, and after its last any token may follow."""
    lead, ids = lead_and_ids(response)
    return Response((*ids[1:], ids[-1]), "", lead=(*lead, ids[0]))
