"""Frozen scores of a round: computed once where scores are fixed, at every step where they draw random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.play.rows import Rows
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.task import Draw, Parameters, Score

CHUNK = 1024  # comparisons scored at once without a gradient


@torch.no_grad()
def frozen(score: Score, parameters: Parameters, examples: Examples, rows: Rows, draw: Draw) -> Tensor:
    """[N, K] scores of all rows' responses under a frozen policy."""
    count, width = rows.responses.shape
    parts = [
        score(
            parameters,
            examples.tensors(rows.responses[begin : begin + CHUNK]),
            torch.from_numpy(rows.prompts[begin : begin + CHUNK]),
            draw,
        )
        for begin in range(0, count, CHUNK)
    ]
    return torch.cat(parts) if parts else torch.empty(0, width)


@dataclass(frozen=True)
class FrozenScores(Mapping[str, Tensor]):
    """Anchor name -> [N, K] scores of a round's rows under the round's own draw; and whose scores they are.

    policies   anchor name -> the policy, as the world keeps it.
    """

    score: Score
    examples: Examples
    rows: Rows
    kept: Mapping[str, Tensor]
    policies: Mapping[str, Any]
    parameters: Mapping[str, Parameters]

    def __getitem__(self, name: str) -> Tensor:
        return self.kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    @torch.no_grad()
    def at(
        self, name: str, chosen: np.ndarray, examples: Mapping[str, Tensor], prompts: Tensor, draw: Draw
    ) -> Tensor:
        """[B, K] scores of some rows' responses in one step, whose random numbers are `draw`."""
        if self.score.fresh:
            return self.score(self.parameters[name], examples, prompts, draw)
        return self.kept[name][torch.from_numpy(chosen)]
