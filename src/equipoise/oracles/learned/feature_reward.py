"""Bradley-Terry reward model on frozen features: a small perceptron trained on labelled pairs.

The caller computes the features of the responses; here they are vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from equipoise.oracles.learned.bottleneck import Bottleneck, kl_warmup

Features: TypeAlias = Float[Tensor, "*batch F"]
PerPair: TypeAlias = Float[Tensor, "N"]


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Optimiser settings of a reward model: AdamW on minibatches.

    steps, batch, rate, decay   optimiser steps, pairs per step, learning rate, weight decay
    width, code, code_rate      width of the hidden layers, width of the bottleneck's codes, and its learning rate: at
                                the reward's rate its codes collapse before the critic learns to read them
    """

    steps: int = 400
    batch: int = 256
    rate: float = 3e-3
    decay: float = 1e-2
    width: int = 64
    code: int = 16
    code_rate: float = 1e-2


@dataclass(frozen=True)
class Views:
    """M pairs of responses to one prompt: features [M, 2, F], sampled in proportion to weight [M]."""

    features: Tensor
    weight: Tensor


class LearnedReward(nn.Module):
    """r = w . h(features), with h two hidden layers; features are standardised by the training data's moments.

    h is bounded (tanh), and so is the reward of responses far from the training data.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(inputs, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(inputs, dtype=torch.float64))
        layers = (nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.trunk = nn.Sequential(*layers).double()
        self.head = nn.Linear(width, 1, bias=False).double()

    def hidden(self, features: Features) -> Tensor:
        """The last layer before the reward, [..., H]."""
        return self.trunk((features - self.centre) / self.spread)

    def forward(self, features: Features) -> Tensor:
        """Rewards [...] in logits; only differences are meaningful."""
        return self.head(self.hidden(features)).squeeze(-1)

    @torch.no_grad()
    def rewards(self, features: Features) -> Tensor:
        return self(features.double())

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> LearnedReward:
        """The reward model whose tensors `fit` returned."""
        width, inputs = tensors["trunk.0.weight"].shape
        reward = cls(inputs, width)
        reward.load_state_dict(dict(tensors))
        return reward


def pair_loss(reward: LearnedReward, pairs: Tensor, prob: Tensor, weight: Tensor) -> Tensor:
    """Bradley-Terry loss: weighted mean of -p log sigma(r_1 - r_2) - (1 - p) log sigma(r_2 - r_1).

    pairs [N, 2, F]   prob [N] probability that the first one wins   weight [N]
    """
    first, second = reward(pairs).unbind(dim=1)
    margin = first - second
    loss = -prob * logsigmoid(margin) - (1 - prob) * logsigmoid(-margin)
    return (weight * loss).sum() / weight.sum()


def fit(
    pairs: Float[Tensor, "N 2 F"],
    prob: PerPair,
    weight: PerPair,
    *,
    seed: int,
    views: Views | None = None,
    bottleneck: float = 0.0,
    fitting: Fitting | None = None,
) -> dict[str, Tensor]:
    """Fits min E[Bradley-Terry loss] + bottleneck E[L_MIB] from a seeded start; returns the reward's tensors.

    views        unlabelled pairs of a policy's responses to one prompt.
    bottleneck   lambda of the paper. At 0, or without views, this is ordinary reward training.

    The bottleneck's KL terms are warmed up (`bottleneck.kl_warmup`). The same arguments give the same tensors.
    Source: Lang et al. 2024 (2403.19279); optimiser and schedule are ours.
    """
    settings = fitting or Fitting()
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reward = LearnedReward(pairs.shape[-1], settings.width)
        shared = Bottleneck(settings.width, settings.code).double()
    seen = pairs.flatten(0, 1).double()
    reward.centre.copy_(seen.mean(dim=0))
    spread = seen.std(dim=0, correction=0)
    reward.spread.copy_(torch.where(spread > 1e-6, spread, 1.0))
    groups: list[dict[str, Any]] = [
        {"params": reward.parameters()},
        {"params": shared.parameters(), "lr": settings.code_rate},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.decay)
    batches = _batches(len(pairs), settings.batch, seed)
    for step in range(settings.steps):
        at = next(batches)
        loss = pair_loss(reward, pairs[at].double(), prob[at].double(), weight[at].double())
        if views is not None and bottleneck:
            among = torch.multinomial(views.weight, settings.batch, replacement=True, generator=draw)
            first, second = reward.hidden(views.features[among].double()).unbind(dim=1)
            loss = loss + bottleneck * shared(
                first, second, draw, divergence=kl_warmup(step / settings.steps)
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in reward.state_dict().items()}


def _batches(size: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Endless minibatch indices, reshuffled in each pass; the last batch of a pass may be short."""
    draw = np.random.default_rng(seed)
    while True:
        yield from torch.from_numpy(draw.permutation(size)).split(batch)
