"""Max-min rewards over groups of users (MaxMin-RLHF): the worst-off group's reward is what the round maximises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.play.capabilities import NamedScores, needing
from equipoise.play.needs import ORACLE_WITH_NAMED_SCORES, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.score_scale import means_of, scaled
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World

WEIGHTS = "group-weights-{:03d}"


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
    capabilities: ClassVar[tuple[type, ...]] = (NamedScores,)

    def __post_init__(self) -> None:
        if not self.eta >= 0:
            raise ValueError(f"eta must be >= 0, got {self.eta!r}")

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        judged = needing(world, NamedScores)
        named = judged.named_scores(rows)
        scores = np.stack(list(named.values()))

        gains = scaled(judged, state, rows, scores).gains
        weights = self.weights(judged, state, means_of(gains, rows))
        reward = np.einsum("g,gnk->nk", weights, gains)
        return replace(rows, reward=reward, attributes={**rows.attributes, **named})

    def weights(self, judged: NamedScores, state: State, utilities: np.ndarray) -> np.ndarray:
        """[G] of this round, which the next one starts from."""
        if not self.eta:
            return np.eye(len(utilities))[int(np.argmin(utilities))]

        def moved(seed: int) -> dict[str, Tensor]:
            before = np.full(len(utilities), 1 / len(utilities))
            if state.round > 1:
                before = judged.kept(state, WEIGHTS.format(state.round - 1), _missing)["weights"].numpy()
            tilted = before * np.exp(-self.eta * (utilities - utilities.min()))
            return {"weights": torch.from_numpy(tilted / tilted.sum())}

        return judged.kept(state, WEIGHTS.format(state.round), moved)["weights"].numpy()

    def describe(self) -> str:
        return "every response with the reward of the group that is worst off"


def _missing(seed: int) -> dict[str, Tensor]:
    raise ValueError("the group weights of the round before are missing from the run folder")
