"""Link functions between scores and preference probabilities P(a beats b).

Every link is antisymmetric: P(a beats b) + P(b beats a) = 1 and P(a beats a) = 1/2. Arguments broadcast, so
`bradley_terry(r[:, None], r[None, :])` is the matrix of all pairs.
"""

from __future__ import annotations

from math import sqrt
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core.objectives.base import positive

Real: TypeAlias = Float[Tensor, "..."]
Planes: TypeAlias = Float[Tensor, "... twice_k"]
PerPlane: TypeAlias = Float[Tensor, "... k"]


def bradley_terry(r_a: Real, r_b: Real) -> Real:
    """Bradley-Terry model P(a beats b) = sigma(r_a - r_b): the larger of two rewards with Gumbel(0, 1) noise wins.

    r_a, r_b   rewards in logits; only their difference counts. Source: Bradley and Terry 1952.
    """
    return torch.sigmoid(r_a - r_b)


def bradley_terry_margin(prob: Real) -> Real:
    """Inverse link of `bradley_terry`: r_a - r_b = logit(prob), infinite at 0 and 1, nan outside [0, 1]."""
    return torch.logit(prob)


def thurstone(r_a: Real, r_b: Real, *, sigma: float = 1.0) -> Real:
    """Thurstone model P(a beats b) = Phi((r_a - r_b) / (sigma sqrt 2)): the larger reward with normal noise wins.

    sigma   standard deviation of the noise on EACH reward, > 0; the difference of two has variance 2 sigma^2,
            hence the sqrt 2. Some texts put the unit variance on the difference: that is sigma = 1/sqrt 2.

    Raises ValueError unless sigma > 0. Source: Thurstone 1927, case V.
    """
    positive(sigma=sigma)
    return torch.special.ndtr((r_a - r_b) / (sigma * sqrt(2)))


def thurstone_margin(prob: Real, *, sigma: float = 1.0) -> Real:
    """Inverse link of `thurstone`: r_a - r_b = sigma sqrt 2 Phi^-1(prob), infinite at 0 and 1."""
    positive(sigma=sigma)
    return sigma * sqrt(2) * torch.special.ndtri(prob)


def skew_score(v_a: Planes, v_b: Planes, lambdas: PerPlane | None = None) -> Real:
    """Skew-symmetric score s(a, b) = <R v_a, v_b> = sum_l lambda_l ( v_a[2l] v_b[2l+1] - v_a[2l+1] v_b[2l] ).

    v_a, v_b   [..., 2k] embeddings of two responses to one prompt, k planes of two coordinates.
    R          block-diagonal, block l = lambda_l [[0, -1], [1, 0]]; skew, so s(a, b) = -s(b, a), s(a, a) = 0.
    lambdas    [..., k] strength of each plane, >= 0 in the paper; None = 1.

    Every antisymmetric table of rank 2k is such a form, cycles included. One plane with a constant second
    coordinate, v = (r, 1), is Bradley-Terry: s = r_a - r_b. The sign convention is that of the authors'
    code; reflecting one axis reverses it, so embeddings from elsewhere may use the other.
    Raises ValueError if the last dimension is odd.

    Source: Zhang et al. 2024 (2410.02197), checked against the authors' code.
    """
    if v_a.shape[-1] % 2:
        raise ValueError(f"embeddings need an even number of coordinates, got {v_a.shape[-1]}")
    cross = v_a[..., 0::2] * v_b[..., 1::2] - v_a[..., 1::2] * v_b[..., 0::2]
    return (cross if lambdas is None else lambdas * cross).sum(dim=-1)


def general_preference(
    v_a: Planes,
    v_b: Planes,
    lambdas: PerPlane | None = None,
    *,
    temperature: float = 1.0,
) -> Real:
    """General preference model P(a beats b) = sigma(s(a, b) / temperature); s is `skew_score`.

    Raises ValueError unless temperature > 0. Source: Zhang et al. 2024 (2410.02197); the authors' code uses
    temperature 0.1 above two dimensions and 1 in two.
    """
    positive(temperature=temperature)
    return torch.sigmoid(skew_score(v_a, v_b, lambdas) / temperature)
