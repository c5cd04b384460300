"""Loss reduction to one scalar: sole owner of labels, weights, denominators, accumulation, ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.base import Memory, Objective, ReadsRunningStatistic, batch_statistic_of
from equipoise.core.scores import Losses, Scores


def expected(objective: Objective, scores: Scores) -> Losses:
    """Expected loss over the label.

        L = p * l(y0 beats y1) + (1 - p) * l(y1 beats y0),    p = scores.prob

    Every pair objective is written once, for a hard label; soft labels and ties need no further code. With
    labels p = P(y0 > y1) this is the expectation over the random ordering lambda_P of the self-play papers, which makes
    a constant target an unbiased regression on win rates (Azar et al. 2023, Munos et al. 2023). Diagnostics are
    those of the labelled order.
    """
    certain = replace(scores, prob=None)
    forward = objective(certain)
    if scores.prob is None or bool((scores.prob == 1).all()):
        return forward
    backward = objective(swap(objective, certain))
    value = scores.prob * forward.value + (1 - scores.prob) * backward.value
    return Losses(value, **forward.metrics)


def with_batch_statistic(objective: Objective, scores: Scores, weight: PerComparison | None = None) -> Scores:
    """Add the batch statistic that the objective reads; for any other objective the same batch.

    Call it on a WHOLE optimizer step; its parts (`Scores.take`) then carry their share. So a step has the same value
    for any split into micro-batches, although each loss depends on the whole batch.
    """
    return (
        replace(scores, batch_statistic=batch_statistic_of(objective, scores, weight))
        if objective.reads.batch_statistic
        else scores
    )


def step_statistic(
    objective: Objective, scores: Scores, weight: PerComparison, memory: Memory, *, training: bool = True
) -> tuple[Memory, PerComparison]:
    """The batch statistic of a whole optimizer step, and the memory of a running one after it.

    memory     of the fit's earlier steps, () before the first; unchanged for a statistic of one batch alone.
    training   False for an evaluation: a running statistic is recalled and not moved.
    """
    if not objective.reads.running or (not training and not memory):
        return memory, batch_statistic_of(objective, scores, weight)
    running = cast(ReadsRunningStatistic, objective)
    if training:
        memory = running.remember(memory, scores, weight.detach())
    return memory, running.recalled(memory, scores).detach()


def swap(objective: Objective, scores: Scores) -> Scores:
    """Swap chosen and rejected, in the columns as the objective orders them.

    An objective whose further columns belong to the pair (SRPO) declares it in `reads.swapped`: column k of the
    swapped comparison is column swapped[k]. By default candidates 0 and 1 change places and the rest stays.
    """
    return scores.swap(objective.reads.swapped)


def mean(
    values: PerComparison,
    weight: PerComparison | None = None,
    *,
    total: Tensor | float | None = None,
    ranks: int = 1,
) -> Tensor:
    """Weighted mean over one optimizer step, computed from any part of it.

        ranks * sum_i w_i v_i / total

    values, weight  [B] the comparisons at hand: a micro-batch on one rank.
    total           sum of weights over the WHOLE optimizer step (all micro-batches, all ranks); None means
                    that the values at hand are the whole step.
    ranks           number of processes whose gradients will be averaged (DDP divides by it afterwards).

    Summed over micro-batches and averaged over ranks this equals the mean over the step, so 1 x 8, 8 x 1 and
    2 ranks x 4 are the same number up to rounding. Raises ValueError if the total is not positive.
    """
    weight = torch.ones_like(values) if weight is None else weight.to(values.dtype)
    if weight.shape != values.shape:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, values {tuple(values.shape)}")
    denominator = weight.sum() if total is None else torch.as_tensor(total, dtype=values.dtype)
    if not bool(denominator > 0):
        raise ValueError("the weights of this optimizer step sum to zero: nothing to average")
    return ranks * (weight * values).sum() / denominator
