"""Greedy split of sampled pairs into a preferred and a dispreferred set, by a reward of whole sets (DRAGON)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from equipoise.play.capabilities import RandomDraws, SetRewards, needing
from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.sampled import distinct
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class GreedySplit(Pairing):
    """Greedy set split: of N pairs of samples, one each goes to D+ so that a set's reward r(D+) is high.

        D+ begins with the first of each pair; in random order, pair i is swapped between D+ and D- if r(D+) rises

    One sweep, N + 1 rewards of sets of N; r(D+) never falls. For a reward that is a sum over a set D+ gets the better
    one of each pair: so where the oracle compares single responses, and r is the share of comparisons that D+ wins;
    nothing is drawn then, and nothing swept.

    paired   a comparison for each pair, D+'s preferred; otherwise single responses labelled desirable (D+) or not, D+'s
             first.

    Source: Bai et al. 2025 (2504.15217); the framework as in the paper's text, the sweep is RECALLED.
    """

    paired: bool = True
    needs: ClassVar[Needs] = ORACLE
    capabilities: ClassVar[tuple[type, ...]] = (SetRewards,)

    def check(self, width: int) -> None:
        if width != 2:
            raise ValueError(f"a greedy split needs two responses per prompt, got {width}")

    def comparisons(self, width: int) -> int:
        return 1 if self.paired else 2

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        reward = needing(world, SetRewards).set_reward(rows)
        zeros = np.zeros(len(rows), dtype=np.intp)
        if reward is None:
            upper = np.where(world.compare(rows, zeros, zeros + 1) >= 0.5, 0, 1)
        else:  # a world that rewards sets draws their order
            order = np.argsort(needing(world, RandomDraws).uniforms(state, "greedy-split", len(rows)))
            upper = swept(reward, zeros, order)
        pairs = replace(rows.pair(upper, 1 - upper, np.ones(len(rows))), reward=None)
        return distinct(pairs) if self.paired else replace(pairs.alone(), prob=None)

    def describe(self) -> str:
        split = "pairs split greedily by a reward of whole sets"
        return split if self.paired else f"{split}, as single labelled responses"


def swept(
    reward: Callable[[npt.NDArray[np.intp]], float],
    start: npt.NDArray[np.intp],
    order: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Columns [N], 0 or 1, after one sweep in the given order: a row's other column is taken if the reward rises."""
    columns = start.copy()
    best = reward(columns)
    for row in order:
        columns[row] = 1 - columns[row]
        swapped = reward(columns)
        if swapped > best:
            best = swapped
        else:
            columns[row] = 1 - columns[row]
    return columns
