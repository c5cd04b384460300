"""A common scale of an oracle's scores: gains over round 1, in standard deviations of that round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.play.capabilities import RunCache, needing
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State
from equipoise.play.world import World

SCALE = "group-scale"
CONSTANT = 1e-8  # a standard deviation up to this is rounding: the score did not vary


@dataclass(frozen=True)
class Scale:
    """Mean and spread [G] of G scores over the responses of round 1, which the initial policy wrote.

    spread    standard deviation; 1 for a score that did not vary in that round.
    """

    mean: Floats
    spread: Floats

    def gains(self, scores: Floats) -> Floats:
        """(r_g - m_g) / s_g of scores [G, N, K]."""
        return self.in_spreads(scores, self.mean)

    def in_spreads(self, scores: Floats, origin: Floats) -> Floats:
        """(r_g - o_g) / s_g of scores [G, N, K], from an origin [G]."""
        return (scores - origin[:, None, None]) / self.spread[:, None, None]


def scale_of(world: World, state: State, rows: Rows, scores: Floats, name: str = SCALE) -> Scale:
    """The scale that the first scores [G, N, K] of the run set, weighted by their rows; cached with the run."""

    def measured(seed: int) -> dict[str, Tensor]:
        means = means_of(scores, rows)
        spread = np.sqrt(means_of(np.square(scores - means[:, None, None]), rows))
        spread = np.where(spread > CONSTANT, spread, 1.0)
        return {"mean": torch.from_numpy(means), "spread": torch.from_numpy(spread)}

    kept = needing(world, RunCache).cached(state, name, measured)
    return Scale(kept["mean"].numpy(), kept["spread"].numpy())


def means_of(scores: Floats, rows: Rows) -> Floats:
    """[G] weighted means of [G, N, K]."""
    return np.average(scores.mean(axis=2), axis=1, weights=rows.weight)
