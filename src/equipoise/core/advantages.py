"""Token-level advantages for PPO: GAE, returns, whitening, and a cross-fitted value function.

Shapes are [N, K, T]: K responses to each of N prompts, tokens from position 0, zero-padded after the end of a response
(`mask` is False). A response that counts as one token has T = 1.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from equipoise.core.dims import Hidden, PerCandidate, PerPlace, PerToken, TokenIds

Mask: TypeAlias = Bool[Tensor, "B K T"]


def at_last(reward: PerCandidate, mask: Mask) -> PerPlace:
    """The reward of each response, paid at its last token."""
    last = mask.sum(dim=2, keepdim=True) - 1
    return torch.zeros_like(mask, dtype=reward.dtype).scatter(2, last, reward[..., None])


def implicit_reward(teacher: Tensor, reference: Tensor, *, beta: float, clip: float | None) -> Tensor:
    """Implicit token reward (RTO), from log-probs under a policy trained by DPO and under the reference.

        r_k = clip( beta [ log pi_dpo(y_k|y_<k) - log pi_ref(y_k|y_<k) ], -c, c )

    The clip comes AFTER the scaling; without it (None) the sum over a response is beta times its DPO
    log-ratio. Any shape. Source: Zhong et al. 2024 (2404.18922), the clip and its place from the released code.
    """
    scaled = beta * (teacher - reference)
    return scaled if clip is None else scaled.clamp(-clip, clip)


def gae(reward: PerPlace, value: PerPlace, *, gamma: float = 1.0, lam: float = 0.95) -> PerPlace:
    """Generalised advantage estimates along each response.

        A_k = sum_{j >= k} (gamma lam)^(j - k) delta_j,    delta_k = r_k + gamma V_{k+1} - V_k

    value    V_k, of the prefix BEFORE token k; 0 after the end of a response, so that the last token has no successor.

    lam = 1 is return minus value, lam = 0 the one-step TD error. Source: Schulman et al. 2015 (1506.02438).
    """
    ahead = torch.cat([value[..., 1:], torch.zeros_like(value[..., :1])], dim=2)
    deltas, running = (reward + gamma * ahead - value).unbind(dim=2), torch.zeros_like(reward[..., 0])
    advantages = []
    for delta in reversed(deltas):
        running = delta + gamma * lam * running
        advantages.append(running)
    return torch.stack(advantages[::-1], dim=2)


def returns(reward: PerPlace, *, gamma: float = 1.0) -> PerPlace:
    """Discounted returns G_k = sum_{j >= k} gamma^(j - k) r_j."""
    return gae(reward, torch.zeros_like(reward), gamma=gamma, lam=1.0)


def whiten(values: PerPlace, weight: PerPlace) -> PerPlace:
    """Whitened values (v - mean)/deviation, weighted; 0 where the weight is 0, or all if values are constant."""
    total = weight.sum()
    centred = values - (weight * values).sum() / total
    deviation = ((weight * centred.square()).sum() / total).sqrt()
    return torch.where((weight > 0) & (deviation > 0), centred / deviation, torch.zeros_like(values))


class CrossFit:
    """Cross-fitted linear value function: ridge regression, each half of the prompts predicted from the other half.

        w = argmin sum_{n in the other half} (G_n - m_G - (x_n - m_x) w)^2 + strength tr(C)/D |w|^2
        V(x) = m_G + (x - m_x) w

    x_n   [D] features of a prefix.    G_n   the return after it.    C = sum (x_n - m_x)(x_n - m_x)^T

    The penalty is `strength` times the mean eigenvalue of C, so that it does not depend on the scale of the
    features. The value of a prefix is fitted without its own return: a baseline leaves the policy gradient unbiased
    only if it is independent of the response. Only sums are stored, not features: one pass with `add`, one with
    `values`. If the other half is empty the prediction is 0. float64.
    """

    def __init__(self, width: int, strength: float = 1e-2) -> None:
        if not strength > 0:
            raise ValueError(f"strength must be positive, got {strength!r}")
        self.strength = strength
        self.sums = torch.zeros(2, width + 2, width + 2, dtype=torch.float64)  # of (x, 1, G) (x, 1, G)^T

    def add(self, features: Hidden, target: PerToken, half: TokenIds) -> None:
        """Add N prefixes with their returns; half is 0 or 1."""
        wide = features.double()
        about = torch.stack([torch.ones_like(target), target], dim=1).to(wide)
        for k in (0, 1):
            mine = torch.cat([wide, about], dim=1)[half.to(wide.device) == k]
            self.sums[k] += (mine.mT @ mine).cpu()

    def values(self, features: Hidden, half: TokenIds) -> PerToken:
        """V of N prefixes in the given halves."""
        values = torch.zeros(len(features), dtype=torch.float64)
        for k in (0, 1):
            mean, level, weights = self._solved(1 - k)
            mine = half == k
            values[mine] = level + (features[mine.to(features.device)].double().cpu() - mean) @ weights
        return values

    def _solved(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        sums = self.sums[k]
        count = sums[-2, -2].clamp(min=1)
        mean, level = sums[-2, :-2] / count, sums[-2, -1] / count
        scatter = sums[:-2, :-2] - count * torch.outer(mean, mean)
        along = sums[:-2, -1] - count * mean * level
        penalty = self.strength * scatter.diagonal().mean().clamp(min=1e-12)
        return mean, level, torch.linalg.solve(scatter + penalty * torch.eye(len(mean)).double(), along)
