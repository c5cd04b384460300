"""Max-min rewards over groups of users (MaxMin-RLHF): the worst-off group's reward is what the round maximises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from equipoise.play.capabilities import NamedScores, RunCache, needing
from equipoise.play.needs import ORACLE_WITH_NAMED_SCORES, Needs
from equipoise.play.pairings.carried import Tensors, carried
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.score_scale import means_of, scale_of
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State
from equipoise.play.world import World

WEIGHTS = "group-weights"


@dataclass(frozen=True, kw_only=True)
class MaxMin(Pairing):
    """Rewards sum_g w_g u_g(x, y) of an oracle's named scores, weighted towards the group that is worst off.

        u_g = (r_g - m_g) / s_g,    U_g = mean of u_g over the round's responses
        eta = 0    w = 1 for the group with the lowest U_g
        eta > 0    w_g ~ w_g exp(-eta U_g), kept from round to round (multiplicative weights)

    r_g        the oracle's score g of a response: a group's reward, or a user's.
    m_g, s_g   mean and standard deviation of r_g over the responses of round 1, which the initial policy wrote: rewards
               learned from preferences have no common zero and scale, and u_g is a gain over the initial policy.
    eta        step of the weights, >= 0.

    Source: Chakraborty et al. 2024 (2402.08925), max_pi min_g E r_g; the authors' released code rewards each sample
    with min_g r_g(x, y) instead, whose mean is a lower bound of min_g U_g. The weights of eta > 0 and the common scale
    are DERIVED.
    """

    eta: float = 0.0
    parameters: ClassVar[tuple[str, ...]] = ("eta",)
    needs: ClassVar[Needs] = ORACLE_WITH_NAMED_SCORES
    capabilities: ClassVar[tuple[type, ...]] = (NamedScores, RunCache)

    def __post_init__(self) -> None:
        if not self.eta >= 0:
            raise ValueError(f"eta must be >= 0, got {self.eta!r}")

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        named = needing(world, NamedScores).named_scores(rows)
        scores = np.stack(list(named.values()))
        gains = scale_of(world, state, rows, scores).gains(scores)
        weights = self.weights(world, state, means_of(gains, rows))
        reward = np.einsum("g,gnk->nk", weights, gains)
        return replace(rows, reward=reward, attributes={**rows.attributes, **named})

    def weights(self, world: World, state: State, utilities: Floats) -> Floats:
        """[G] of this round, which the next one starts from."""
        if not self.eta:
            return np.eye(len(utilities))[int(np.argmin(utilities))]

        equal = {"weights": torch.full((len(utilities),), 1 / len(utilities), dtype=torch.float64)}

        def moved(before: Tensors) -> Tensors:
            tilted = before["weights"].numpy() * np.exp(-self.eta * (utilities - utilities.min()))
            return {"weights": torch.from_numpy(tilted / tilted.sum())}

        return carried(world, state, WEIGHTS, first=equal, moved=moved)["weights"].numpy()

    def describe(self) -> str:
        return "every response with the reward of the group that is worst off"
