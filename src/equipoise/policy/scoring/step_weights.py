"""Adaptive step weights (TPO): how much each reasoning step differs from those of the other answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equipoise.core.logprob import by_response, scored_positions
from equipoise.core.step_weights import StepForm, weights_of
from equipoise.data.collate import TokenBatch
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scorer import backbone


@torch.no_grad()
def step_weights(
    policy: CausalPolicy, batch: TokenBatch, steps: Int[Tensor, "R T"], form: StepForm = "difference"
) -> Float[Tensor, "R T"]:
    """Step weights [R, T], one for each scored token: its step's, with mean 1 over a response's steps; 0 off the mask.

    steps    [R, T] index of each token's step, from 0; any value where there is no token.

        "difference"  w_ik = 1 - cos( r_ik, mean over the other paths j of r_jk )    1 where no other path has a k-th
        "release"     w_ik = 1 + cos( r_ik, r_0k )                                   the released code
        r_ik          mean of the last hidden states at the tokens of step k of path i

    Steps that all paths share have weight 0 with "difference", 2 before scaling with "release". If all of a path are
    0, its weights become 1. Raises ValueError for another form.

    Why "difference" is the default: a step that two paths share after the same beginning has the same log-ratio in
    both, and cancels in the margin whatever its weight. Where a share f of the steps is common, "difference" gives the
    others the weight 1/(1 - f), so that their margin counts as much as in two paths without common steps; "release"
    gives them about 1/(1 + f), and moves weight to where nothing can be learned. The paper's aim, steps that
    distinguish a branch from its siblings, is met by the first alone.

    Source: Liao et al. 2024 (2410.12854): the adaptive step reward RECALLED, "release" checked against the authors'
    code, "difference" and the scaling DERIVED.
    """
    if form not in get_args(StepForm):
        raise ValueError(f"form must be one of {get_args(StepForm)}, got {form!r}")
    on_device = batch.to(policy.device)
    where = scored_positions(on_device.scored)
    with policy.scorer.autocast(policy.device):
        states = backbone(policy.model)(
            input_ids=on_device.ids, attention_mask=on_device.attention, use_cache=False
        ).last_hidden_state
    at_tokens, mask = by_response(states[where.row, where.target].double(), where.row, len(batch.ids))
    means, exists = _means(at_tokens, steps.to(mask.device), mask)
    paths = (*batch.shape, -1)
    weights = weights_of(means.view(*paths, means.shape[-1]), exists.view(*paths), form)
    at = steps.to(mask.device).clamp(0, weights.shape[2] - 1)
    return weights.flatten(0, 1).gather(1, at).where(mask, 0)


def steps_of(tokens: Sequence[Sequence[str]], mark: str) -> Int[Tensor, "R T"]:
    """Step index [R, T] of each token: a step ends with the token that completes `mark`; "": one step per token.

    Blanks at the beginning of a step are no mark, so that empty lines belong to the step that follows them.
    """
    rows = []
    for texts in tokens:
        number, row, written = 0, [], ""
        for text in texts:
            row.append(number)
            written += text
            if mark in written.lstrip():
                number, written = number + 1, ""
        rows.append(row)
    longest = max(map(len, rows), default=0)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def _means(states: Tensor, steps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean states of steps: ([R, S, D] means, [R, S] True where a response has the step)."""
    count = int(steps.where(mask, 0).max()) + 1
    member = (steps[..., None] == torch.arange(count, device=steps.device)) & mask[..., None]  # [R, T, S]
    size = member.sum(dim=1)
    sums = torch.einsum("rts,rtd->rsd", member.to(states), states)
    return sums / size.clamp(min=1)[..., None], size > 0
