"""Exact expectations of objectives, over all comparisons of a finite game with their probabilities.

rows = enumerate_pairs(game, sampler)
scores, weight = pairs(game, log_probs, anchors, sampler)
loss = reduce.mean(reduce.expected(objective, scores).value, weight)      exact loss, exact gradient
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.dims import Payoff, PerCandidate, PerComparison, Strategy
from equipoise.core.objectives.base import Objective
from equipoise.core.scores import Scores
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import PromptIndex, ResponseIndex


class Comparisons(NamedTuple):
    """B comparisons of a finite game, fields in the order of `minimise`'s arguments.

    prompts   [B] prompt index       responses   [B, K] response indices, column 0 the preferred one
    weight    [B] probability        prob        [B] P(column 0 beats column 1); None means certainty
    reward    [B, K] reward of each response; None if the objective reads none
    batch_statistic   [B] the objective's statistic of all comparisons; see `reduce.with_batch_statistic`
    """

    prompts: PromptIndex
    responses: ResponseIndex
    weight: PerComparison
    prob: PerComparison | None = None
    reward: PerCandidate | None = None
    batch_statistic: PerComparison | None = None


def scores(
    log_probs: Strategy,
    anchors: Mapping[str, Strategy],
    prompts: PromptIndex,
    responses: ResponseIndex,
    prob: PerComparison | None = None,
    reward: PerCandidate | None = None,
) -> Scores:
    """Look up the scores of the given comparisons in tables of log-probs [X, A].

    The gradient flows through `log_probs`; anchors are detached.
    """
    at = (prompts.unsqueeze(1), responses)
    frozen = {k: v.detach()[at] for k, v in anchors.items()}
    return Scores(logp=log_probs[at], anchors=frozen, prob=prob, reward=reward)


def enumerate_pairs(game: PreferenceGame, sampler: Strategy, second: Strategy | None = None) -> Comparisons:
    """Every (x, y, y') with y ~ sampler, y' ~ second (default: the same distribution) and the label P(y > y').

    sampler, second    [X, A] probabilities. Pairs of probability zero are left out.
    """
    joint = torch.einsum("x,xa,xb->xab", game.prompt_weight, sampler, sampler if second is None else second)
    x, y, z = joint.nonzero(as_tuple=True)
    return Comparisons(x, torch.stack([y, z], dim=1), joint[x, y, z], game.preference[x, y, z])


def enumerate_data(data: Payoff, own: Strategy | None = None) -> Comparisons:
    """Every recorded pair (x, y+, y-); with `own`, each with a self-play response y' ~ own as candidate 2.

    data    [X, A, A] weight of "y+ was preferred to y-" (counts or probabilities; not normalised here).
    own     [X, A] probabilities.
    """
    if own is None:
        x, w, l = data.nonzero(as_tuple=True)
        return Comparisons(x, torch.stack([w, l], dim=1), data[x, w, l])
    joint = torch.einsum("xwl,xa->xwla", data, own)
    x, w, l, a = joint.nonzero(as_tuple=True)
    return Comparisons(x, torch.stack([w, l, a], dim=1), joint[x, w, l, a])


def pairs(
    game: PreferenceGame,
    log_probs: Strategy,
    anchors: Mapping[str, Strategy],
    sampler: Strategy,
    second: Strategy | None = None,
) -> tuple[Scores, PerComparison]:
    """(scores, weight) of every pair from the sampler(s), with soft labels; see `enumerate_pairs`."""
    rows = enumerate_pairs(game, sampler, second)
    return scores(log_probs, anchors, rows.prompts, rows.responses, rows.prob), rows.weight


def triples(
    log_probs: Strategy, anchors: Mapping[str, Strategy], data: Payoff, own: Strategy
) -> tuple[Scores, PerComparison]:
    """(scores, weight) of every recorded pair with every self-play response; see `enumerate_data`."""
    rows = enumerate_data(data, own)
    return scores(log_probs, anchors, rows.prompts, rows.responses), rows.weight


def loss(
    objective: Objective, log_probs: Strategy, anchors: Mapping[str, Strategy], rows: Comparisons
) -> Tensor:
    """The exact expected loss over the rows, a differentiable scalar."""
    batch = scores(log_probs, anchors, rows.prompts, rows.responses, rows.prob, rows.reward)
    batch = reduce.with_batch_statistic(objective, batch, rows.weight)
    return reduce.mean(reduce.expected(objective, batch).value, rows.weight)
