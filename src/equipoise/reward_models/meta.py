"""MetaRM: reward model training that keeps telling apart what the current policy writes.

with ascended(parameters, lambda: spread(rewards_of_sampled_responses()), rate=eta):
    pair_loss(batch).backward()            the Bradley-Terry gradient at theta' = theta + eta grad J
optimizer.step()                           taken at theta

As the policy moves, its responses score nearly the same under a reward model trained on older ones. One ascent step
on their spread J is looked ahead, and the ordinary gradient is taken there: first-order MAML.
Source: Secrets of RLHF, part II (2401.06080); the constants are RECALLED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


def spread(rewards: Float[Tensor, "P k"]) -> Tensor:
    """Spread of rewards of k responses to one prompt, J = (2/k^2) sum_{i<j} sigma(|r_i - r_j|), mean over prompts.

    rewards    [P, k] in logits, k >= 2; responses sampled by the current policy.

    Between (k - 1)/(2k), all equal, and (k - 1)/k. Where two rewards are equal their term has no gradient. Raises
    ValueError for another shape or fewer than two responses.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2 or not len(rewards):
        raise ValueError(f"rewards must be [prompts, responses >= 2], got {tuple(rewards.shape)}")
    k = rewards.shape[1]
    first, second = torch.triu_indices(k, k, offset=1, device=rewards.device)
    return 2 / k**2 * torch.sigmoid((rewards[:, first] - rewards[:, second]).abs()).sum(dim=1).mean()


@contextmanager
def ascended(
    parameters: Sequence[nn.Parameter], objective: Callable[[], Tensor], rate: float
) -> Iterator[float]:
    """Parameters one gradient ascent step ahead, theta' = theta + rate grad J(theta), within the block.

    objective    computes J at theta; parameters that it does not read stay where they are.
    rate         eta >= 0.

    Gives J(theta). Leaving the block restores theta bit for bit, whatever happened in it; gradients that were
    accumulated in it remain and are those at theta'. Raises ValueError for a negative rate, or a J or a gradient
    that is not finite.
    """
    if not rate >= 0:
        raise ValueError(f"the rate of the ascent must be at least 0, got {rate!r}")
    trained = [p for p in parameters if p.requires_grad]
    value = objective()
    gradients = torch.autograd.grad(value, trained, allow_unused=True)
    if not all(bool(g.isfinite().all()) for g in (value.detach(), *gradients) if g is not None):
        raise ValueError("the spread of the sampled responses' rewards, or its gradient, is not finite")
    before = [p.detach().clone() for p in trained]
    try:
        with torch.no_grad():
            for p, g in zip(trained, gradients, strict=True):
                if g is not None:
                    p.add_(g, alpha=rate)
        yield float(value.detach())
    finally:
        with torch.no_grad():
            for p, kept in zip(trained, before, strict=True):
                p.copy_(kept)
