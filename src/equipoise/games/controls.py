r"""Control policies, exact: what a table of methods is read against.

The best Bradley-Terry policies at every temperature, best-of-n, and the uniform policy over a set of responses. The
regularised Nash policy is `games.solve.regularised_nash`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from equipoise.core.dims import Payoff, Strategy
from equipoise.games.closed_form import dpo_optimum
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy

STEPS, SETTLED = 50, 1e-10


def scalar_reward(preference: Payoff, share: Strategy) -> Strategy:
    r"""The reward of the Bradley-Terry model that fits best, in logits with mean 0, [X, A].

        r = argmax_r sum_{y, y'} share(y) share(y') P(y > y') log sigma(r(y) - r(y'))

    preference  [X, A, A] P, which needs to be no Bradley-Terry model.
    share       [X, A] > 0, the policy that writes both responses of a pair: the reference, or the uniform one.

    Newton's method; the concave objective has one maximum if every P is in (0, 1). Raises ValueError if a share is 0
    or the steps do not settle, as with preferences of 0 or 1.
    """
    if not bool((share > 0).all()):
        raise ValueError("every response needs a positive share, or its reward is free")
    size = share.shape[1]
    weight = share[:, :, None] * share[:, None, :]
    weight.diagonal(dim1=1, dim2=2).zero_()
    scale = share[:, :, None]  # rows are divided by the share, so that rare responses count in the solution
    reward = torch.zeros_like(share)
    for _ in range(STEPS):
        prob = torch.sigmoid(reward[:, :, None] - reward[:, None, :])
        gradient = (weight * (preference - prob)).sum(2)
        slope = weight * prob * (1 - prob)
        curvature = torch.diag_embed(slope.sum(2)) - slope
        system = curvature / scale + share[:, None, :] / size  # the constant vector is free
        step = torch.linalg.solve(system, (gradient / share)[..., None])[..., 0].clamp(-2.0, 2.0)
        reward = reward + step
        if float(step.abs().max()) < SETTLED:
            return reward - reward.mean(1, keepdim=True)
    raise ValueError("the Bradley-Terry fit did not settle; are preferences 0 or 1?")


def scalar_policies(game: PreferenceGame, reward: Strategy, betas: list[float]) -> list[TabularPolicy]:
    """The Bradley-Terry optimum ref exp(r / beta) at every beta, the policies of RLHF and DPO at convergence."""
    return [dpo_optimum(game.initial(), reward, beta) for beta in betas]


def best_of_n(reference: TabularPolicy, reward: Strategy, n: int) -> TabularPolicy:
    """The law of the best of n samples by the reward, [X, A]:

        pi(y) = F(y)^n - F(y-)^n,    F(y) = reference's mass of rewards at most r(y), F(y-) of rewards below

    shared among responses of equal reward by their reference mass. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"best-of-n needs at least one sample, got {n}")
    probs, rows = reference.probs(), []
    for mass, value in zip(probs, reward, strict=True):
        levels, place = value.unique(return_inverse=True)
        of_level = torch.zeros(len(levels), dtype=mass.dtype).index_add_(0, place, mass)
        until = of_level.cumsum(0).clamp(max=1.0)
        below = torch.cat([torch.zeros(1, dtype=mass.dtype), until[:-1]])
        rows.append((until**n - below**n)[place] * mass / of_level[place])
    return TabularPolicy.from_probs(torch.stack(rows) / torch.stack(rows).sum(1, keepdim=True))


def uniform_over(support: Bool[Tensor, "X A"]) -> TabularPolicy:
    """The uniform policy over a set of responses. Raises ValueError for an empty one."""
    if not bool(support.any(dim=1).all()):
        raise ValueError("a prompt has no response to be uniform over")
    probs = support.double()
    return TabularPolicy.from_probs(probs / probs.sum(1, keepdim=True))
