"""Distillation of logits (dual-head): a loss of logit differences alone, and two gradients that do not contradict."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import positive

Logits: TypeAlias = Float[Tensor, "B C"]
Flat: TypeAlias = Float[Tensor, "N"]


def logit_distillation_loss(student: Logits, teacher: Logits, temperature: float = 2.0) -> PerComparison:
    """Binary KL of logit differences, T^2 sum_c log cosh(z_c / 2), z = (s - t)/T, of every example, [B].

        log cosh(z/2) = KL( Bernoulli(1/2) || Bernoulli(sigma(z)) ) = -1/2 log sigma(z) - 1/2 log sigma(-z) - log 2

    student, teacher   [B, C] logits; the teacher's carry no gradient here.

    Not negative, 0 exactly where s = t, even in z, z^2/8 near 0. Raises ValueError unless T > 0.
    Source: Yang et al. 2024 (2411.08937), checked against the authors' code; the log cosh form is DERIVED.
    """
    positive(temperature=temperature)
    z = (student - teacher.detach()) / temperature
    size = z.abs()  # log cosh by |z|/2 + log( (1 + e^-|z|)/2 ): the sum of two softplus would cancel near 0
    return temperature**2 * (size / 2 + torch.log1p(torch.expm1(-size) / 2)).sum(dim=1)


def aligned(distilled: Flat, labelled: Flat) -> Flat:
    """The gradient of distillation, [N], without its part against that of the labels, if the two contradict.

        g_KD - (g_KD . g_CE / |g_CE|^2) g_CE   if g_KD . g_CE < 0,   else g_KD

    The sum with g_CE then never descends less along g_CE than g_CE alone: g_total . g_CE >= |g_CE|^2.
    Source: Yang et al. 2024 (2411.08937), checked against the authors' code.
    """
    dot, square = distilled @ labelled, labelled @ labelled
    return distilled - (dot / square) * labelled if bool(dot < 0) and bool(square > 0) else distilled
