"""Premises of limits: transformations that make arbitrary scores satisfy one condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from equipoise.core.scores import Scores

Given = Callable[[Scores], Scores]


def one_token(scores: Scores) -> Scores:
    """Every response is one token long."""
    return replace(scores, length=torch.ones_like(scores.logp))


def tokens(count: int) -> Given:
    """Every response has this number of tokens."""
    return lambda scores: replace(scores, length=torch.full_like(scores.logp, count, requires_grad=False))


def even_reference(scores: Scores) -> Scores:
    """The reference gives both responses the same log-prob."""
    return replace(scores, anchors={"reference": torch.full_like(scores.of("reference"), -10.0)})


def weighing_nothing(scores: Scores) -> Scores:
    """Every response has the weight 1."""
    return replace(scores, response_weight=torch.ones_like(scores.logp, requires_grad=False))


def first_round(scores: Scores) -> Scores:
    """The last policy still is the reference."""
    return replace(scores, anchors=dict.fromkeys(scores.anchors, scores.of("reference")))


def one_role(scores: Scores) -> Scores:
    """SRPO's improver answers as its generator does, whatever it improves."""

    def tied(x: Tensor) -> Tensor:
        return x[:, [0, 1, 0, 1, 0, 1]]

    return replace(
        scores, logp=tied(scores.logp), anchors={"reference": tied(scores.of("reference"))}, length=None
    )


def pair(scores: Scores) -> Scores:
    """Two responses."""
    return Scores(
        logp=scores.logp[:, :2],
        anchors={name: anchor[:, :2] for name, anchor in scores.anchors.items()},
        reward=None if scores.reward is None else scores.reward[:, :2],
    )


def paid(first: float, second: float) -> Given:
    """Two responses with these rewards."""

    def given(scores: Scores) -> Scores:
        two = pair(scores)
        return replace(two, reward=two.rewards().new_tensor([first, second]).expand(len(two), 2))

    return given


def second_paid(of: Callable[[Tensor], Tensor]) -> Given:
    """Two responses, with the second reward a function of the first."""

    def given(scores: Scores) -> Scores:
        two = pair(scores)
        first = two.rewards()[:, 0]
        return replace(two, reward=torch.stack([first, of(first)], dim=1))

    return given


def masks(utility: float, divergence: float) -> Given:
    """The same mask value for every token of SparsePO's pair."""

    def given(scores: Scores) -> Scores:
        tokens = scores.by_token()
        one = tokens.mask.to(tokens.logp.dtype)
        weights = {"utility": utility * one, "divergence": divergence * one}
        return replace(scores, tokens=replace(tokens, weights=weights))

    return given
