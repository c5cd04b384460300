"""Shared by the tests of objectives: small groups written by hand, and all groups of a finite game."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def _pairs(
    chosen: Sequence[float],
    rejected: Sequence[float],
    *,
    reference: tuple[float, float] | None = None,
    lengths: tuple[float, float] | None = None,
    prob: float | None = None,
) -> Scores:
    logp = torch.tensor([list(chosen), list(rejected)], dtype=torch.float64).T.contiguous().requires_grad_()

    def row(values: tuple[float, float]) -> torch.Tensor:
        return torch.tensor([values], dtype=torch.float64).expand(len(logp), 2)

    return Scores(
        logp=logp,
        anchors={} if reference is None else {"reference": row(reference)},
        length=None if lengths is None else row(lengths),
        prob=None if prob is None else torch.full((len(logp),), prob, dtype=torch.float64),
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


@pytest.fixture
def pairs() -> Callable[..., Scores]:
    """pairs(chosen, rejected, reference=, lengths=, prob=): a pair for each two log-probs; the rest is one for all."""
    return _pairs


@pytest.fixture
def margins(pairs: Callable[..., Scores]) -> Callable[..., Scores]:
    """margins(*gaps): log-ratios (gap/2, -gap/2) to a reference that gives both responses 0."""

    def made(*gaps: float, prob: float | None = None) -> Scores:
        half = [gap / 2 for gap in gaps]
        return pairs(half, [-x for x in half], reference=(0.0, 0.0), prob=prob)

    return made
