"""Value regression: a linear critic on the policy's own hidden states, without a second model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from equipoise.core.advantages import CrossFit
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.anchor_store import batches
from equipoise.policy.scoring.microbatch import Comparison


def regress_values(
    policy: CausalPolicy,
    comparisons: Sequence[Comparison],
    returns: Tensor,
    batch: int | None,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """Value estimates [N, K, T] of the prefixes before each token, 0 after a response's end; see `CrossFit`.

    returns    [N, K, T] return that followed each token.
    batch      comparisons in a micro-batch, at most; None: as many as the token budget allows.
    tick       called with the number of comparisons after each micro-batch of either pass.

    The value is linear in the last hidden state that predicts the token, fitted by ridge regression on the returns of
    the other half of the comparisons. It replaces PPO's value network of the policy's size, trained by gradient steps
    with a learning rate of its own over rounds: one model in memory, an exact fit to the current policy's returns,
    nothing to tune. The price: values are at most linear in these features, and responses are read twice.
    """
    fit: CrossFit | None = None
    for indices, features, mask in _features(policy, comparisons, batch):
        fit = fit or CrossFit(features.shape[1])
        fit.add(features, _of(returns, indices, mask), _halves(indices, mask))
        if tick:
            tick(len(indices))
    assert fit is not None
    values = torch.zeros_like(returns)
    for indices, features, mask in _features(policy, comparisons, batch):
        part = torch.zeros(mask.shape, dtype=returns.dtype)
        part[mask] = fit.values(features, _halves(indices, mask)).to(part)
        values[indices, :, : mask.shape[2]] = part
        if tick:
            tick(len(indices))
    return values


def _features(
    policy: CausalPolicy, comparisons: Sequence[Comparison], batch: int | None
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Micro-batches: (indices of the comparisons, [tokens, D] features, [B, K, T] mask of the tokens)."""
    for indices, inputs in batches(policy, comparisons, batch):
        features, mask = policy.features(inputs)
        yield indices, features[mask], mask.cpu()


def _of(returns: Tensor, indices: list[int], mask: Tensor) -> Tensor:
    """[tokens] returns of a micro-batch."""
    return returns[indices][:, :, : mask.shape[2]][mask]


def _halves(indices: list[int], mask: Tensor) -> Tensor:
    """[tokens] half of each token for cross-fitting: comparisons alternate, with all their tokens."""
    return (torch.tensor(indices)[:, None, None] % 2).expand_as(mask)[mask]
