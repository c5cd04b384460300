"""A statistic of a whole optimizer step, for objectives that read one: measured before the step's first gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import Objective
from equipoise.core.scores import Scores
from equipoise.play.rows import Rows


class Scoring(Protocol):
    """What is asked of a fit: its comparisons, and their scores under the policy as it stands."""

    @property
    def rows(self) -> Rows: ...

    @property
    def objective(self) -> Objective: ...

    @property
    def accelerator(self) -> Accelerator: ...

    def microbatches(self, mine: np.ndarray, columns: Sequence[int]) -> list[list[int]]: ...

    def scores(self, chosen: np.ndarray, columns: Sequence[int] | None = None) -> Scores: ...

    def recorded(
        self, chosen: np.ndarray, columns: Sequence[int], logp: Tensor
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]: ...


@torch.no_grad()
def context(fit: Scoring, chosen: np.ndarray, mine: np.ndarray) -> Tensor | None:
    """What the objective reads of the whole step, for each comparison of `mine`; None where it reads nothing.

    chosen, mine   the step's comparisons; those that this process descends on.

    Every process scores its own and gathers the others' scores, so all measure the same whole, whatever the
    micro-batches and ranks. Only the columns that the context reads are scored.
    """
    if not fit.objective.reads.batch_statistic:
        return None
    every = list(range(fit.rows.responses.shape[1]))
    read = list(fit.objective.reads.statistic_columns) or every
    at = {row: place for place, row in enumerate(chosen.tolist())}
    places = torch.tensor([at[row] for row in mine.tolist()])
    shares = fit.microbatches(mine, read)
    own = torch.cat([fit.scores(mine[share], read).logp for share in shares])
    taken = places[[place for share in shares for place in share]].to(own.device)
    logp = own.new_zeros(len(chosen), len(read))
    if fit.accelerator.process_index < len(chosen):  # else its comparison is another's
        logp = logp.index_copy(0, taken, own)
    logp = fit.accelerator.reduce(logp, "sum")  # one process has scored a comparison, the others add 0
    # what was not scored must not be read
    table = torch.full((len(chosen), len(every)), torch.nan, dtype=logp.dtype, device=logp.device)
    table[:, read] = logp
    anchors, prob, reward = fit.recorded(chosen, every, table)
    weight = torch.from_numpy(fit.rows.weight[chosen]).to(table)
    whole = Scores(logp=table, anchors=anchors, prob=prob, reward=reward)
    found = reduce.with_batch_statistic(fit.objective, whole, weight).batch_statistic
    assert found is not None
    return found[places.to(found.device)]
