"""From the rewards of tokens to their advantages: what PPO weighs its ratios with.

Shapes are [N, K, T]: K responses to each of N prompts, tokens from place 0 on, zeros where a response is over
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
    """RTO's reward of a token, from its log-probs under a policy trained by DPO and under the reference.

        r_k = clip( beta [ log pi_dpo(y_k|y_<k) - log pi_ref(y_k|y_<k) ], -c, c )

    The clip comes AFTER the scaling; None for no clip, with which the sum over a response is beta times DPO's
    log-ratio of it. Any shape. Source: Zhong et al. 2024 (2404.18922), the clip and its place from the released code.
    """
    scaled = beta * (teacher - reference)
    return scaled if clip is None else scaled.clamp(-clip, clip)


def gae(reward: PerPlace, value: PerPlace, *, gamma: float = 1.0, lam: float = 0.95) -> PerPlace:
    """Generalised advantage estimates along each response.

        A_k = sum_{j >= k} (gamma lam)^(j - k) delta_j,    delta_k = r_k + gamma V_{k+1} - V_k

    value    V_k, of the prefix BEFORE token k; 0 where the response is over, so that nothing follows the last token.

    lam = 1 is the return less the value, lam = 0 one step. Source: Schulman et al. 2015 (1506.02438).
    """
    ahead = torch.cat([value[..., 1:], torch.zeros_like(value[..., :1])], dim=2)
    found, running = (reward + gamma * ahead - value).unbind(dim=2), torch.zeros_like(reward[..., 0])
    advantages = []
    for delta in reversed(found):
        running = delta + gamma * lam * running
        advantages.append(running)
    return torch.stack(advantages[::-1], dim=2)


def returns(reward: PerPlace, *, gamma: float = 1.0) -> PerPlace:
    """G_k = sum_{j >= k} gamma^(j - k) r_j."""
    return gae(reward, torch.zeros_like(reward), gamma=gamma, lam=1.0)


def whiten(values: PerPlace, weight: PerPlace) -> PerPlace:
    """(values - mean)/deviation, both weighted; 0 where the weight is, and everywhere if all values are alike."""
    total = weight.sum()
    centred = values - (weight * values).sum() / total
    deviation = ((weight * centred.square()).sum() / total).sqrt()
    return torch.where((weight > 0) & (deviation > 0), centred / deviation, torch.zeros_like(values))


class CrossFit:
    """Linear values of prefixes by ridge regression, each predicted from the other half of the prompts.

        w = argmin sum_{n in the other half} (G_n - m_G - (x_n - m_x) w)^2 + strength tr(C)/D |w|^2
        V(x) = m_G + (x - m_x) w

    x_n   [D] features of a prefix.    G_n   the return that followed it.    C = sum (x_n - m_x)(x_n - m_x)^T

    The penalty is `strength` times the mean eigenvalue of C, so that it does not depend on the scale of the
    features. The value of a prefix has never seen what followed it: a baseline leaves the policy gradient as it
    is only if it is independent of the response. Sums are kept, not features: one pass with `add`, one with
    `values`. A half without any prefix is predicted as 0. float64.
    """

    def __init__(self, width: int, strength: float = 1e-2) -> None:
        if not strength > 0:
            raise ValueError(f"strength must be positive, got {strength!r}")
        self.strength = strength
        self.sums = torch.zeros(2, width + 2, width + 2, dtype=torch.float64)  # of (x, 1, G) (x, 1, G)^T

    def add(self, features: Hidden, target: PerToken, half: TokenIds) -> None:
        """N prefixes with their returns; half is 0 or 1."""
        wide = features.double()
        about = torch.stack([torch.ones_like(target), target], dim=1).to(wide)
        for k in (0, 1):
            mine = torch.cat([wide, about], dim=1)[half.to(wide.device) == k]
            self.sums[k] += (mine.mT @ mine).cpu()

    def values(self, features: Hidden, half: TokenIds) -> PerToken:
        """V of N prefixes, which belong to the given halves."""
        found = torch.zeros(len(features), dtype=torch.float64)
        for k in (0, 1):
            mean, level, weights = self._solved(1 - k)
            mine = half == k
            found[mine] = level + (features[mine.to(features.device)].double().cpu() - mean) @ weights
        return found

    def _solved(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        sums = self.sums[k]
        count = sums[-2, -2].clamp(min=1)
        mean, level = sums[-2, :-2] / count, sums[-2, -1] / count
        scatter = sums[:-2, :-2] - count * torch.outer(mean, mean)
        along = sums[:-2, -1] - count * mean * level
        penalty = self.strength * scatter.diagonal().mean().clamp(min=1e-12)
        return mean, level, torch.linalg.solve(scatter + penalty * torch.eye(len(mean)).double(), along)
