"""The interface of every objective: a frozen, keyword-only callable from Scores to Losses."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch

from equipoise.core.dims import PerComparison
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores

# the numbers of a running statistic so far: () before the first step
Memory = tuple[float, ...]


@runtime_checkable
class Objective(Protocol):
    """Objective (loss): a pure function of scores.

    anchors      names of the frozen policies with scores that it reads; the method maps them to policies
                 ("reference" = the initial policy, "previous" = the last round's).
    candidates   number of responses per prompt: 2 for a pair, 3 for SPAC's pair and own response; the minimum if
                 `reads.group`.
    reads        all other inputs, and the meaning of its value; `PAIR` for a plain pair loss.

    Calling it gives the loss of each comparison under the label "candidate 0 beats candidate 1"; soft labels are
    handled once for all objectives by `reduce.expected`. Without a pair label the loss is that of the rewards or labels
    in the scores.
    """

    @property
    def anchors(self) -> tuple[str, ...]: ...

    @property
    def candidates(self) -> int: ...

    @property
    def reads(self) -> Reads: ...

    def __call__(self, scores: Scores) -> Losses: ...


class ReadsBatchStatistic(Protocol):
    """An objective that reads a statistic of the whole batch (a mean, a rank), `reads.batch_statistic`.

    The caller of a step computes it once, over all micro-batches and ranks, and passes it per comparison as
    `scores.batch_statistic`. Without it, the comparisons at hand are the batch; see `batch_statistic_of`.
    """

    def batch_statistic(self, scores: Scores, weight: PerComparison) -> PerComparison: ...


class ReadsRunningStatistic(ReadsBatchStatistic, Protocol):
    """An objective with a batch statistic that runs over the optimizer steps of a fit, `reads.running`.

    Where there are no steps (an exact game, a batch alone) it is `batch_statistic`, that of the batch at hand.
    """

    def remember(self, memory: Memory, scores: Scores, weight: PerComparison) -> Memory:
        """The memory after one more step: its comparisons [B, K] are scored before its gradient."""
        ...

    def recalled(self, memory: Memory, scores: Scores) -> PerComparison:
        """The statistic that a non-empty memory gives each of some comparisons, [B] without gradient."""
        ...


def batch_statistic_of(
    objective: Objective, scores: Scores, weight: PerComparison | None = None
) -> PerComparison:
    """The batch statistic that the objective reads, [B] without gradient: as given, else of this batch.

    weight    [B] weights of the comparisons, by default 1; a comparison of weight 0 does not count.
    """
    if scores.batch_statistic is not None:
        return scores.batch_statistic
    weight = torch.ones_like(scores.logp[:, 0]) if weight is None else weight.to(scores.logp)
    return cast(ReadsBatchStatistic, objective).batch_statistic(scores, weight.detach()).detach()


def require_pair_loss(name: str, base: Objective) -> None:
    """Raise ValueError unless `base`, to which the objective `name` adds a term, is the loss of a labelled pair."""
    reads = base.reads
    if (
        base.candidates != 2
        or reads.group
        or reads.surrogate
        or reads.batch_statistic
        or not reads.pair_label
    ):
        raise ValueError(
            f"{name} adds a term to the loss of a labelled pair; {type(base).__name__} is not one"
        )


def positive(**values: float) -> None:
    """Raise ValueError unless every named value is a positive finite number."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number, got {value!r}")


def not_negative(**values: float) -> None:
    """Raise ValueError unless every named value is a finite number >= 0."""
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number >= 0, got {value!r}")
