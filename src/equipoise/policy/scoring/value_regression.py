"""The value of a prefix, read off the policy's own hidden states: a critic without a second model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from equipoise.core.advantages import CrossFit
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.anchor_store import batches
from equipoise.policy.scoring.microbatch import Pair


def values(
    policy: CausalPolicy,
    comparisons: Sequence[Pair],
    returns: Tensor,
    batch: int | None,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """[N, K, T] values of the prefixes before each token, 0 where a response is over; see `CrossFit`.

    returns    [N, K, T] what followed.

    A linear function of the last hidden state that predicts the token, fitted by ridge regression on the returns of
    every other comparison. PPO trains a value network of the policy's size beside it, by gradient steps with their
    own learning rate, over rounds. This replaces it: one model in memory, an exact fit to the current policy's
    returns, nothing to tune; the price is that the value is no better than linear in these features, and a second
    pass over the responses. `tick(n)` is told of every n comparisons done in either pass.
    """
    fit: CrossFit | None = None
    for chosen, features, mask in _features(policy, comparisons, batch):
        fit = fit or CrossFit(features.shape[1])
        fit.add(features, _of(returns, chosen, mask), _halves(chosen, mask))
        if tick:
            tick(len(chosen))
    assert fit is not None
    found = torch.zeros_like(returns)
    for chosen, features, mask in _features(policy, comparisons, batch):
        part = torch.zeros(mask.shape, dtype=returns.dtype)
        part[mask] = fit.values(features, _halves(chosen, mask)).to(part)
        found[chosen, :, : mask.shape[2]] = part
        if tick:
            tick(len(chosen))
    return found


def _features(
    policy: CausalPolicy, comparisons: Sequence[Pair], batch: int | None
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batch by batch: the comparisons' places, [tokens, D] features, [B, K, T] where the tokens are."""
    for chosen, rows in batches(policy, comparisons, batch):
        features, mask = policy.features(rows)
        yield chosen, features[mask], mask.cpu()


def _of(returns: Tensor, chosen: list[int], mask: Tensor) -> Tensor:
    return returns[chosen][:, :, : mask.shape[2]][mask]


def _halves(chosen: list[int], mask: Tensor) -> Tensor:
    """Every other comparison is in the other half, for all of its tokens."""
    return (torch.tensor(chosen)[:, None, None] % 2).expand_as(mask)[mask]
