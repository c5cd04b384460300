"""Batch-level statistics of an optimizer step (KTO, BCO), computed before its first gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import Objective
from equipoise.core.objectives.base import Memory
from equipoise.core.scores import Scores
from equipoise.play.rows import Rows


class Scoring(Protocol):
    """The part of a fit that is read: its comparisons, and their scores under the current policy."""

    @property
    def rows(self) -> Rows: ...

    @property
    def objective(self) -> Objective: ...

    memory: Memory
    """Of a running statistic; moved by `context`."""

    @property
    def accelerator(self) -> Accelerator: ...

    def microbatches(self, mine: np.ndarray, columns: Sequence[int]) -> list[list[int]]: ...

    def scores(self, chosen: np.ndarray, columns: Sequence[int] | None = None) -> Scores: ...

    def extrapolated(self, chosen: np.ndarray) -> Mapping[str, Tensor]: ...

    def recorded(
        self, chosen: np.ndarray, columns: Sequence[int], logp: Tensor
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]: ...


@torch.no_grad()
def context(fit: Scoring, chosen: np.ndarray, mine: np.ndarray, *, training: bool = True) -> Tensor | None:
    """The objective's batch statistic for each comparison of `mine`; None if it reads none.

    chosen, mine   the step's comparisons; those of this process.
    training       False for an evaluation: a running statistic is recalled and not moved.

    Every process scores its own comparisons and gathers the others' scores, so all compute the same statistic,
    independent of micro-batches and ranks. Only the columns that the statistic reads are scored.
    """
    if not fit.objective.reads.batch_statistic:
        return None
    every = list(range(fit.rows.responses.shape[1]))
    read = list(fit.objective.reads.statistic_columns) or every
    at = {row: place for place, row in enumerate(chosen.tolist())}
    places = torch.tensor([at[row] for row in mine.tolist()])
    shares = fit.microbatches(mine, read)
    own = torch.cat([fit.scores(mine[share or [0]], read).logp[: len(share)] for share in shares])
    order = [place for share in shares for place in share]

    def gathered(values: Tensor) -> Tensor:
        """[len(chosen), ...] of all processes: each comparison is scored by one of them, the others add 0."""
        whole = values.new_zeros(len(chosen), *values.shape[1:])
        if fit.accelerator.process_index < len(chosen):  # else it repeats another process's comparison
            whole = whole.index_copy(0, places[order].to(values.device), values)
        return fit.accelerator.reduce(whole, "sum")

    logp = gathered(own)
    read_so = [fit.extrapolated(mine[share]) for share in shares] if fit.objective.reads.extrapolated else []
    further = {
        name: gathered(torch.cat([part[name] for part in read_so]))
        for name in fit.objective.reads.extrapolated
    }
    # unscored columns are NaN: they must not be read
    table = torch.full((len(chosen), len(every)), torch.nan, dtype=logp.dtype, device=logp.device)
    table[:, read] = logp
    anchors, prob, reward = fit.recorded(chosen, every, table)
    weight = torch.from_numpy(fit.rows.weight[chosen]).to(table)
    whole = Scores(logp=table, anchors=anchors, prob=prob, reward=reward, extrapolated=further)
    fit.memory, statistic = reduce.step_statistic(fit.objective, whole, weight, fit.memory, training=training)
    return statistic[places.to(statistic.device)]
