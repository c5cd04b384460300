"""Utility-probability duality: the gradient of maximum likelihood is that of preferences, weighted by belief."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from equipoise.core.dims import PerCandidate

Belief = Literal["model", "uniform", "rival"]


def preference_gradient(utilities: PerCandidate, label: Tensor, belief: Belief = "model") -> PerCandidate:
    """Ascent direction in the utilities u of preferring the label to every alternative, [B, K], without gradient.

        sum_{y'} b(y') ( e_y - e_y' )

    belief   b: "model": pi = softmax(u), which gives grad log pi(y), maximum likelihood; "uniform": 1/K, the plain
             linear loss of pairs; "rival": all on argmax u, the multiclass perceptron, 0 where that is the label.

    Adding a function of x to u changes nothing.
    Source: Wang et al. 2023 (2305.14859); the identity is DERIVED. The paper's rule that turns utilities into new
    probabilities could not be recovered and is not here.
    """
    u = utilities.detach()
    if belief == "model":
        b = u.softmax(dim=1)
    elif belief == "uniform":
        b = torch.full_like(u, 1 / u.shape[1])
    else:
        b = torch.zeros_like(u).scatter(1, u.argmax(dim=1, keepdim=True), 1.0)
    own = torch.zeros_like(u).scatter(1, label[:, None], 1.0)
    return own * b.sum(dim=1, keepdim=True) - b
