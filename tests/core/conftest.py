"""Shared by the tests of objectives: small groups written by hand, and all groups of a finite game."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.dims import Strategy
from equipoise.games import Comparisons, TabularPolicy


def _group(ratios: list[float], rewards: list[float] | None = None, *anchors: str) -> Scores:
    wide = {"dtype": torch.float64}
    logp = torch.tensor([ratios], **wide, requires_grad=True)
    return Scores(
        logp=logp,
        anchors={name: torch.zeros_like(logp, requires_grad=False) for name in anchors},
        reward=None if rewards is None else torch.tensor([rewards], **wide),
    )


def _groups(reward: Strategy, *samplers: TabularPolicy) -> Comparisons:
    tuples = torch.cartesian_prod(*[torch.arange(reward.shape[1])] * len(samplers))
    tuples = tuples.reshape(-1, len(samplers))
    weight = torch.stack([s.probs()[0, tuples[:, k]] for k, s in enumerate(samplers)]).prod(dim=0)
    prompts = torch.zeros(len(tuples), dtype=torch.long)
    return Comparisons(prompts, tuples, weight, reward=reward.detach()[0, tuples])


@pytest.fixture
def group() -> Callable[..., Scores]:
    """group(ratios, rewards, *anchors): one comparison with these log-ratios to every anchor."""
    return _group


@pytest.fixture
def groups() -> Callable[..., Comparisons]:
    """groups(reward, *samplers): every tuple of responses to one prompt, one from each sampler, with rewards."""
    return _groups
