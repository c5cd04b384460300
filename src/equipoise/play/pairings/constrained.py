"""Constrained rewards of several scores (constrained RLHF): a Lagrangian whose multipliers follow the violations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, get_args

import numpy as np
import torch

from equipoise.core.multipliers import Form, Multipliers
from equipoise.play.capabilities import NamedScores, RunCache, needing
from equipoise.play.needs import ORACLE_WITH_NAMED_SCORES, Needs
from equipoise.play.pairings.carried import Tensors, carried
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.score_scale import means_of, scale_of
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State
from equipoise.play.world import World

MULTIPLIERS = "multipliers"


@dataclass(frozen=True, kw_only=True)
class Constrained(Pairing):
    """Rewards sum_c lambda_c u_c(x, y) of scores with thresholds (proxy points), lambda the Lagrange multipliers.

        max_pi -KL(pi || pi_ref)   subject to   E r_c >= theta_c   (or = theta_c)
        u_c = (r_c - theta_c)/s_c,    shortfall_c = -(mean of u_c over the round's responses)

    thresholds         score -> theta_c, in the oracle's units: the point beyond which more of the score no longer
                       serves what it stands for. Scores without one are recorded, and do not count.
    constraint         "at_least" or "equal", see `core.multipliers`.
    multiplier_rate    step size of the multipliers, > 0, in each round.
    momentum           of their steps, in [0, 1).
    s_c                standard deviation of r_c in round 1, see `score_scale`.

    Source: Moskovitz et al. 2023 (2310.04373), checked against the authors' code, which normalises every advantage by
    batch; the scale of round 1 is ours.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict, hash=False)
    constraint: Form = "at_least"
    multiplier_rate: float = 0.1
    momentum: float = 0.1
    parameters: ClassVar[tuple[str, ...]] = ("thresholds", "constraint", "multiplier_rate", "momentum")
    needs: ClassVar[Needs] = ORACLE_WITH_NAMED_SCORES
    capabilities: ClassVar[tuple[type, ...]] = (NamedScores, RunCache)

    def __post_init__(self) -> None:
        if self.constraint not in get_args(Form):
            raise ValueError(
                f"constraint must be one of {', '.join(get_args(Form))}, got {self.constraint!r}"
            )
        if not isinstance(self.thresholds, Mapping):
            raise ValueError(f"thresholds maps a score's name to a number, got {self.thresholds!r}")
        for name, value in self.thresholds.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"the threshold of {name} must be a finite number, got {value!r}")
        if not self.multiplier_rate > 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                "multiplier_rate must be positive and momentum in [0, 1), got "
                f"{self.multiplier_rate!r} and {self.momentum!r}"
            )

    def check_scores(self, names: Sequence[str]) -> None:
        if not self.thresholds:
            raise ValueError(
                "no score has a threshold; give one with objective.thresholds, such as "
                f"{{{names[0]}: 1.0}} (its scores: {', '.join(names)})"
            )
        if unknown := [name for name in self.thresholds if name not in names]:
            raise ValueError(
                f"objective.thresholds names {', '.join(unknown)}; its scores are {', '.join(names)}"
            )

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        named = needing(world, NamedScores).named_scores(rows)
        self.check_scores(tuple(named))
        bound = [
            name for name in named if name in self.thresholds
        ]  # in the oracle's order, as in a resumed run
        scores = np.stack([named[name] for name in bound])
        limits = np.array([self.thresholds[name] for name in bound])
        excess = scale_of(world, state, rows, scores).in_spreads(scores, limits)
        weights = self.multipliers(world, state, -means_of(excess, rows)).relative
        reward = np.einsum("c,cnk->nk", weights, excess)
        return replace(rows, reward=reward, attributes={**rows.attributes, **named})

    def multipliers(self, world: World, state: State, shortfall: Floats) -> Multipliers:
        """Those of this round, moved by its shortfall [C] from those of the round before."""

        def moved(before: Tensors) -> Tensors:
            step = {"rate": self.multiplier_rate, "momentum": self.momentum}
            return _tensors(self._read(before).moved(shortfall, **step))

        first = _tensors(Multipliers.new(len(shortfall), self.constraint))
        return self._read(carried(world, state, MULTIPLIERS, first=first, moved=moved))

    def _read(self, kept: Tensors) -> Multipliers:
        return Multipliers(mu=kept["mu"].numpy(), velocity=kept["velocity"].numpy(), form=self.constraint)

    def describe(self) -> str:
        return "every response with its scores in excess of their thresholds, weighed by Lagrange multipliers"


def _tensors(multipliers: Multipliers) -> Tensors:
    return {"mu": torch.from_numpy(multipliers.mu), "velocity": torch.from_numpy(multipliers.velocity)}
