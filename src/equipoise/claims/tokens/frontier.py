"""What a policy over token trees gains for every nat that it leaves its reference by, while a loss is descended.

Copies (seeds) are the prompts of one `TokenPolicy`. A loss that moves faster is not thereby the better one: losses are
compared where their policies have gone equally far, or have become equally good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.claims.claim import Array, Line, interval
from equipoise.games import TokenPolicy, kl


@dataclass(frozen=True, eq=False)
class Climb:
    """kl, value    [seeds, steps + 1] KL(pi || ref) in nats, and E_pi of the true score, after each step."""

    kl: Array
    value: Array

    def value_at(self, nats: float) -> Array:
        """[seeds] value where the KL first reaches `nats`, between steps by a straight line; NaN if it never does."""
        return crossing(self.kl, self.value, nats)

    def kl_at(self, value: float) -> Array:
        """[seeds] KL where the value first reaches `value`, in the same way."""
        return crossing(self.value, self.kl, value)


def climb(
    loss: Callable[[TokenPolicy], Tensor],
    reference: TokenPolicy,
    truth: Tensor,
    *,
    steps: int,
    rate: float,
    auxiliary: nn.Module | None = None,
) -> Climb:
    """Adam on the summed losses of the copies, [seeds], from the reference on; `auxiliary` is an auxiliary module.

    truth    [seeds, A] the true score of every response.
    """
    logits = reference.logits.clone().requires_grad_(True)
    trained = [logits, *([] if auxiliary is None else auxiliary.parameters())]
    optimizer = torch.optim.Adam(trained, lr=rate)
    base, path = reference.tabular(), []
    for step in range(steps + 1):
        policy = TokenPolicy(reference.tree, logits)
        with torch.no_grad():
            whole = policy.tabular()
            path.append(torch.stack([kl(whole, base), (whole.probs() * truth).sum(dim=1)]))
        if step < steps:
            optimizer.zero_grad()
            loss(policy).sum().backward()
            optimizer.step()
    found = torch.stack(path, dim=2).numpy()
    return Climb(found[0], found[1])


def crossing(x: Array, y: Array, level: float) -> Array:
    """[seeds] y where x [seeds, T] first reaches the level, by linear interpolation; NaN where it never does."""
    found = np.full(len(x), np.nan)
    for seed, (along, what) in enumerate(zip(x, y, strict=True)):
        reached = np.flatnonzero(along >= level)
        if len(reached):
            k = int(reached[0])
            share = 1.0 if k == 0 else (level - along[k - 1]) / (along[k] - along[k - 1])
            found[seed] = what[k] if k == 0 else what[k - 1] + share * (what[k] - what[k - 1])
    return found


def ahead(first: Array, second: Array) -> tuple[float, float, float]:
    """Mean of first - second over the same seeds with its 95 % interval; not a number if either is missing once."""
    mean, low, high = interval((first - second)[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


def curve(name: str, found: Climb, levels: tuple[float, ...]) -> Line:
    """Value against KL over the levels that every seed reaches."""
    at = [(nats, found.value_at(nats)) for nats in levels]
    kept = [(nats, values) for nats, values in at if not np.isnan(values).any()]
    mean, low, high = interval(np.stack([values for _, values in kept], axis=1))
    return Line(name, tuple(nats for nats, _ in kept), tuple(mean), tuple(low), tuple(high))
