"""Gradient entanglement: which way one step on a margin loss moves the log-prob of either response.

Source: Yuan et al. 2024, 2410.13828.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from equipoise.play.state import Floats
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import Comparison


class Gradients(NamedTuple):
    """Of pairs [N]: |g_w|^2, |g_l|^2 and <g_w, g_l> of the gradients of log pi(y_w) and log pi(y_l)."""

    better: Floats
    worse: Floats
    inner: Floats

    @property
    def cosine(self) -> Floats:
        """Cosine of both gradients."""
        return self.inner / np.sqrt(self.better * self.worse)

    def moves(self, up: float = 1.0, down: float = 1.0) -> tuple[Floats, Floats]:
        """First-order changes of log pi(y_w) and log pi(y_l) per unit of learning rate of a step.

            up |g_w|^2 - down <g_w, g_l>,    up <g_w, g_l> - down |g_l|^2

        up, down   the loss's coefficients of -log pi(y_w) and log pi(y_l); equal for DPO, IPO, SLiC and hinge losses.
        """
        return up * self.better - down * self.inner, up * self.inner - down * self.worse


def gradients(policy: CausalPolicy, comparisons: Sequence[Comparison]) -> Gradients:
    """Inner products of the gradients of both log-probs of each pair, exact, over the trained parameters.

    Holds two gradients besides the weights; a pair costs two forward and two backward passes. Log-probs are summed
    over tokens.
    """
    trained = [parameter for _, parameter in policy.trained()]
    found = []
    for prompt, (better, worse) in comparisons:
        grads = []
        for response in (better, worse):
            logp, _ = policy.logprobs(policy.batch([prompt], [[response]]))
            grads.append(torch.autograd.grad(logp.sum(), trained, allow_unused=True))
        found.append([_inner(grads[i], grads[j]) for i, j in ((0, 0), (1, 1), (0, 1))])
    return Gradients(*np.array(found, dtype=np.float64).reshape(-1, 3).T)


def _inner(a: Sequence[torch.Tensor | None], b: Sequence[torch.Tensor | None]) -> float:
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return float(sum((x.flatten().double() @ y.flatten().double() for x, y in pairs), torch.zeros(())))


def kinds(found: Gradients) -> dict[str, Floats]:
    """What a step with equal coefficients does to each pair, as 0 or 1: name -> [N]; of each pair one is 1.

    apart      <g_w, g_l> < min(|g_w|^2, |g_l|^2): the preferred response rises, the other falls
    both_fall  |g_w|^2 <= <g_w, g_l>: the shared part of both gradients is pushed down
    both_rise  |g_l|^2 <= <g_w, g_l> < |g_w|^2
    """
    falls = found.inner >= found.better
    rises = ~falls & (found.inner >= found.worse)
    each = {"apart": ~falls & ~rises, "both_fall": falls, "both_rise": rises}
    return {name: values.astype(float) for name, values in each.items()}
