"""Losses of reward and preference models, on the logit z of P(first response beats second).

Every model gives such a logit: Bradley-Terry r_1 - r_2, a general preference s(1, 2) / tau, a pairwise model what its
head says. Labels may be soft (p in [0, 1]; a tie is 1/2) and pairs may have weights (`core.reduce.mean`).
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from equipoise.core.objectives.base import positive

PerPair: TypeAlias = Float[Tensor, "*N"]
Labelled: TypeAlias = Float[Tensor, "N A"]
Known: TypeAlias = Bool[Tensor, "N A"]


def preference_loss(
    logit: PerPair, prob: PerPair, *, margin: PerPair | float = 0.0, smoothing: PerPair | float = 0.0
) -> PerPair:
    """Cross-entropy of a preference: L = -p log sigma(z - m) - (1 - p) log sigma(m - z), one number for each pair.

    logit      z, in nats: positive where the model prefers the first response.
    prob       label p = P(first beats second), in [0, 1].
    margin     m, in nats: by how much the first response should win; of a response that should lose it is negative.
               So turning a label round turns its margin round, and the margin of an ensemble (its mean r_1 - r_2) keeps
               its sign however the pair is labelled.
    smoothing  e in [0, 1/2]: the label becomes (1 - e) p + e (1 - p). At p = 1 the best logit is then logit(1 - e).

    At z = m the loss is log 2 whatever the label; dL/dz = sigma(z - m) - p. Source: Bradley and Terry 1952; margin and
    smoothing as in Wang et al. 2024 (2401.06080).
    """
    soft = prob + smoothing * (1 - 2 * prob)
    above = logit - margin
    return -soft * logsigmoid(above) - (1 - soft) * logsigmoid(-above)


def centring(first: PerPair, second: PerPair) -> PerPair:
    """Auxiliary loss (r_1 + r_2)^2, which pins the sum of two rewards near 0: Bradley-Terry leaves it undetermined.

    Its usual coefficient is 0.01. Source: Eisenstein et al. 2023 (2312.09244), equation 2.
    """
    return (first + second).square()


def over_attributes(loss: Labelled, known: Known) -> PerPair:
    """Mean of the losses [N, A] of several attributes over those that have a label; without any the loss is 0.

    known   [N, A] which labels there are. The losses of the others must be finite, and get no gradient.
    """
    return torch.where(known, loss, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def symmetric_prob(forward: PerPair, backward: PerPair) -> PerPair:
    """Preference from both orders: P = (P(1, 2) + 1 - P(2, 1)) / 2, so that P(1 > 2) + P(2 > 1) = 1.

    forward, backward   logits that the response shown first wins, for the orders (1, 2) and (2, 1).
    """
    return (torch.sigmoid(forward) + torch.sigmoid(-backward)) / 2


def symmetric_logit(forward: PerPair, backward: PerPair) -> PerPair:
    """Logit of `symmetric_prob`; P is kept 1e-12 away from 0 and 1, so that it is finite where both orders are sure."""
    return torch.logit(symmetric_prob(forward, backward), eps=1e-12)


def tempered(logit: PerPair, temperature: float) -> PerPair:
    """Logit at another temperature, z / T. Raises ValueError unless T > 0."""
    positive(temperature=temperature)
    return logit / temperature
