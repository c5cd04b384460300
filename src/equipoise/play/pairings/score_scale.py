"""A common scale of an oracle's named scores: gains over round 1, in standard deviations of that round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.play.capabilities import NamedScores
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State

SCALE = "group-scale"


@dataclass(frozen=True)
class Scaled:
    """Named scores of a round's responses, scores [G, N, K], with their mean and spread [G] of round 1."""

    scores: Floats
    mean: Floats
    spread: Floats

    @property
    def gains(self) -> Floats:
        """(r_g - m_g) / s_g, [G, N, K]."""
        return (self.scores - self.mean[:, None, None]) / self.spread[:, None, None]


def scaled(judged: NamedScores, state: State, rows: Rows, scores: Floats) -> Scaled:
    """The scores [G, N, K] with moments of the first round, which the initial policy wrote; kept with the run."""

    def measured(seed: int) -> dict[str, Tensor]:
        means = means_of(scores, rows)
        spread = np.sqrt(means_of(np.square(scores - means[:, None, None]), rows))
        return {"mean": torch.from_numpy(means), "spread": torch.from_numpy(np.maximum(spread, 1e-8))}

    scale = judged.kept(state, SCALE, measured)
    return Scaled(scores, scale["mean"].numpy(), scale["spread"].numpy())


def means_of(scores: Floats, rows: Rows) -> Floats:
    """[G] weighted means of [G, N, K]."""
    return np.average(scores.mean(axis=2), axis=1, weights=rows.weight)
