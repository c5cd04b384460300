"""Contrast of two contexts of one model at decoding: Linear Alignment (Gao et al. 2024, 2401.11458).

A principle in the context moves the next-token distribution; going further along the same direction in logits is one
step of policy improvement in closed form, with the contrast in the place of the unknown gradient of the value:

    z(v) = z_p(v) + c [z_p(v) - z_0(v)],    sampled at temperature T from the nucleus of softmax(z_p / T)

z_p, z_0   logits [V] with and without the principle, after the same response tokens.
c          the step; 0: the model with the principle, -1: the one without.

Source: the decoding rule and the nucleus are checked against the authors' code (model.py, utils.py of their release);
the bound on the divergence is DERIVED from the constraint of the paper's problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from equipoise.data.collate import Prompt
from equipoise.policy.generation.inverse_cdf import nucleus, sample_tokens
from equipoise.policy.protocol import Decoding

HALVINGS = 16  # of the interval in which the largest step within the bound is searched


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The contrast of prompts with a principle against the prompts as they are.

    prompts      one for each prompt, with the principle.
    strength     c, the step beyond the model with the principle.
    divergence   most nats of KL(softmax z || softmax z_p) at a token, at temperature 1 and before truncation; where the
                 step would exceed it, it is the largest that does not. None: no bound.

    Raises ValueError for a strength below -1 (which would move against the principle) or a bound that is not positive.
    """

    prompts: Sequence[Prompt]
    strength: float = 3.0
    divergence: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and self.strength >= -1):
            raise ValueError(f"the strength of a contrast must be a number from -1 on, got {self.strength}")
        if self.divergence is not None and not self.divergence > 0:
            raise ValueError(f"the bound on the divergence must be > 0 nats, got {self.divergence}")

    def at(self, places: Sequence[int]) -> Contrast:
        """The contrast of some of the prompts."""
        return replace(self, prompts=[self.prompts[i] for i in places])

    def logits(self, plain: Tensor, principled: Tensor) -> Tensor:
        """z [R, V] from z_0 and z_p [R, V], in float32; the step of each row is within the bound."""
        principled = principled.float()
        direction = principled - plain.float()
        step = torch.full_like(principled[:, :1], self.strength)
        if self.divergence is not None:
            step = _within(principled, direction, step, self.divergence)
        return principled + step * direction

    def sample_tokens(
        self, logits: Sequence[Tensor], uniform: Tensor, *, decoding: Decoding
    ) -> tuple[Tensor, Tensor]:
        """Tokens [R] by uniforms [R] from the logits [R, V] of both contexts, and their log-probs under softmax z."""
        plain, principled = logits
        among = nucleus(principled, decoding)
        return sample_tokens(self.logits(plain, principled), uniform, decoding, among)


def _within(base: Tensor, direction: Tensor, step: Tensor, bound: float) -> Tensor:
    """[R, 1] the step of each row, or the largest on the way to it with KL(step || base) <= bound, by bisection.

    The divergence grows with the length of the step: its derivative is c times the variance of the direction.
    """
    low, high = torch.zeros_like(step), step
    fits = _divergence(base, direction, step) <= bound
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = _divergence(base, direction, middle) <= bound
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return torch.where(fits, step, low)


def _divergence(base: Tensor, direction: Tensor, step: Tensor) -> Tensor:
    """[R, 1] KL(softmax(base + step direction) || softmax(base))."""
    moved = (base + step * direction).log_softmax(-1)
    return (moved.exp() * (moved - base.log_softmax(-1))).sum(-1, keepdim=True)
