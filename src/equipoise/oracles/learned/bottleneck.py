"""Multi-view information bottleneck (RLP-UML): the information that two responses to one prompt share.

The loss is the paper's (Lang et al. 2024, 2403.19279, after Federici et al. 2020); the critic, its negatives and the
width of the codes are RECALLED from the latter.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

PerPair = Float[Tensor, "M"]
Codes = Float[Tensor, "M Z"]


def gaussian_kl(mean: Codes, log_std: Codes, other_mean: Codes, other_log_std: Codes) -> PerPair:
    """KL( N(mean, std^2) || N(other_mean, other_std^2) ), [M] in nats; diagonal covariances."""
    ratio = (2 * (log_std - other_log_std)).exp()
    distance = ((mean - other_mean) * (-other_log_std).exp()).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(dim=1)


def shared_information(joint: PerPair, product: PerPair) -> Tensor:
    """Jensen-Shannon lower bound on the information two codes share: E_joint[-sp(-T)] - E_product[sp(T)].

    joint, product   a critic's T of matching codes, and of mismatched ones; sp is softplus. The bound is -2 log 2
                     for a critic that cannot tell them apart, and 0 for one that always can.
    """
    return -softplus(-joint).mean() - softplus(product).mean()


def kl_warmup(done: float) -> float:
    """Warm-up factor on the KL terms after a share `done` of training: 10^-3 up to a quarter, 1 from three quarters."""
    return min(1.0, max(1e-3, 2 * done - 0.5))


class Bottleneck(nn.Module):
    """L_MIB = -I_JS(z1; z2) + (1/2) [ KL(p(z|v1)||p(z|v2)) + KL(p(z|v2)||p(z|v1)) ].

    p(z|v) = N(m(h), S(h)), with h [M, H] the reward model's last layer on a view v; m and log S^(1/2) are the two
    halves of a three-layer network's output, and z is sampled. The views v1, v2 are two responses to one prompt; z1
    with the z2 of another pair is a sample from the product of the marginals.
    """

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.code = _three_layers(width, width, 2 * code)
        self.critic = _three_layers(2 * code, width, 1)

    def forward(
        self, first: Tensor, second: Tensor, generator: torch.Generator, *, divergence: float = 1.0
    ) -> Tensor:
        """The loss of M >= 2 pairs of views [M, H]; `divergence` is a factor on the KL terms.

        With factor 1 from the start the codes collapse before the critic has learned to read them, and never recover:
        the loss stays at 2 log 2. Increased to 1 slowly, as in Federici et al., it finds what the views share.
        """
        (m1, s1), (m2, s2) = (self.codes(view) for view in (first, second))
        kl = (gaussian_kl(m1, s1, m2, s2) + gaussian_kl(m2, s2, m1, s1)) / 2
        z1, z2 = (m + s.exp() * _noise(m, generator) for m, s in ((m1, s1), (m2, s2)))
        joint = self.critic(torch.cat([z1, z2], dim=1))[:, 0]
        product = self.critic(torch.cat([z1, z2.roll(1, dims=0)], dim=1))[:, 0]
        return divergence * kl.mean() - shared_information(joint, product)

    def codes(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(mean [M, Z], log standard deviation [M, Z], kept within [-5, 2])."""
        mean, log_std = self.code(view).chunk(2, dim=1)
        return mean, log_std.clamp(-5, 2)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def _three_layers(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )
