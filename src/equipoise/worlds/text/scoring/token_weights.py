"""Token weights from a frozen policy: computed once per round, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from equipoise.data.collate import Ids, collate, lead_and_ids
from equipoise.data.rendering.tokens import Codec
from equipoise.play.capabilities import Activations, TokenWeighting
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.activation_masks import activation_mask
from equipoise.policy.scoring.microbatch import Comparison
from equipoise.policy.scoring.step_weights import step_weights, steps_of


def token_weights(
    policy: CausalPolicy,
    comparisons: Sequence[Comparison],
    batch: int,
    by: TokenWeighting,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """[N, K, T] token weights, 0 at padding; `batch` comparisons per forward pass."""
    scored = [[lead_and_ids(response)[1] for response in group] for _, group in comparisons]
    longest = max(len(ids) for group in scored for ids in group)
    weights = torch.zeros(len(comparisons), len(scored[0]), longest, dtype=torch.float64)
    for begin in range(0, len(comparisons), batch):
        chosen = comparisons[begin : begin + batch]
        rows = collate([prompt for prompt, _ in chosen], [list(group) for _, group in chosen], policy.pad)
        if isinstance(by, Activations):
            weight, _ = activation_mask(policy, rows)
        else:
            ids = [response for group in scored[begin : begin + batch] for response in group]
            weight = step_weights(policy, rows, steps_of(_shown(policy, ids), by.mark), by.form)
        laid = weight.double().cpu().view(*rows.shape, -1)
        weights[begin : begin + batch, :, : laid.shape[2]] = laid
        if tick:
            tick(len(chosen))
    return weights


def _shown(policy: CausalPolicy, responses: Sequence[Ids]) -> list[list[str]]:
    codec = Codec(policy.tokenizer)
    return [codec.shown(ids) for ids in responses]
