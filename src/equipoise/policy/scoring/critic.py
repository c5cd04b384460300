"""Value network (critic): a linear head on the last hidden states of a model's own copy, trained with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from equipoise.data.pack import Batch
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scorer import causal_lm
from equipoise.policy.scoring.anchor_store import batches
from equipoise.policy.scoring.microbatch import Comparison


class ValueHead(nn.Module):
    """V_k = w . h_k + b, h_k the last hidden state that predicts token k.

    w and b begin at 0: the first values are 0, and the first advantages returns.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        return self.linear(states).squeeze(-1)


def value_head(policy: CausalPolicy, folder: Path) -> ValueHead:
    """The value head saved with a critic's checkpoint; a new one if it has none, as the initial policy."""
    head = ValueHead(causal_lm(policy.model).config.hidden_size)
    checkpoint.load_network(head, folder)
    return head


def values_of(policy: CausalPolicy, head: ValueHead, batch: Batch) -> tuple[Tensor, Tensor]:
    """([B, K, T] values of the prefixes before each token, 0 where there is none; [B, K, T] mask); differentiable."""
    states, mask = policy.scorer.features(batch.to(policy.device))
    values = (head(states.float()) * mask).double()
    return values.unflatten(0, batch.shape), mask.unflatten(0, batch.shape)


@torch.no_grad()
def score_values(
    policy: CausalPolicy,
    head: ValueHead,
    comparisons: Sequence[Comparison],
    most: int | None,
    tick: Callable[[int], None] = lambda count: None,
) -> tuple[Tensor, Tensor]:
    """(values [N, K, T] of all comparisons, lengths [N, K]) under the weights in memory, on the CPU.

    most    comparisons in a micro-batch, at most; None: as many as the token budget allows.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for indices, inputs in batches(policy, comparisons, most):
        values, mask = values_of(policy, head, inputs)
        found.update(zip(indices, zip(values.cpu(), mask.sum(dim=2).cpu(), strict=True), strict=True))
        tick(len(indices))
    longest = max(values.shape[1] for values, _ in found.values())
    padded = [nn.functional.pad(found[i][0], (0, longest - found[i][0].shape[1])) for i in range(len(found))]
    return torch.stack(padded), torch.stack([found[i][1] for i in range(len(found))])
