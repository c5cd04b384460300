"""Self-labelling by the policy's implicit reward: SPA, and CREAM with consistency-regularised labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import ResponseScores, needing
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import distinct
from equipoise.play.rows import Rows
from equipoise.play.state import BEFORE, INITIAL, START, Floats, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class ImplicitRewardLabels(Pairing):
    """Implicit-reward labels: the responses with the largest and smallest log pi_t(y) - log pi_0(y), as one pair.

    No oracle queries. Adding c(x) to either log-prob changes nothing; equal rewards and equal responses give no pair.
    Round 1 keeps the recorded pairs and their labels.

    consistency   a soft label C instead of a hard one, the same for all pairs of a round:

        C = mean over prompts of ( KendallTau(reward of pi_t, reward of pi_t-1) + 1 )/2

    pi_t-1 is the previous policy; while it is pi_0 itself, with rewards all 0, mean token log-probs rank instead.
    C = 1: both give the same order on every prompt; below 1/2 the pairs are learned in reverse.

    Source: Kim et al. 2024 (2406.04412) for the labels; Wang et al. 2024 (2410.12735) for the consistency; both read
    in their authors' code. That a round starts from pi_t and uses it as the reference is RECALLED.
    """

    consistency: bool = False

    capabilities: ClassVar[tuple[type, ...]] = (ResponseScores,)

    def check(self, width: int) -> None:
        at_least(2, "best against worst", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        if state.round == 1:
            return rows
        self.check(rows.responses.shape[1])
        scoring = needing(world, ResponseScores)
        own, length = scoring.scores(state, rows, START)
        first, _ = scoring.scores(state, rows, INITIAL)
        reward = own - first
        label = 1.0
        if self.consistency:
            same = state.policies[BEFORE] == state.policies[INITIAL]
            before = first / length if same else scoring.scores(state, rows, BEFORE)[0] - first
            label = float(np.average((kendall(reward, before) + 1) / 2, weights=rows.weight))
        pairs = rows.pair(reward.argmax(axis=1), reward.argmin(axis=1), np.full(len(rows), label))
        return distinct(pairs.take(reward.max(axis=1) > reward.min(axis=1)))

    def describe(self) -> str:
        how = (
            "labelled by its consistency with the previous policy" if self.consistency else "with hard labels"
        )
        return f"best against worst by the policy's own implicit reward, {how}"


def kendall(first: Floats, second: Floats) -> Floats:
    """[N] Kendall's tau of two scores [N, K] of the same responses: mean over pairs of the product of their signs."""
    i, j = np.triu_indices(first.shape[1], 1)
    signs = [np.sign(scores[:, i] - scores[:, j]) for scores in (first, second)]
    return (signs[0] * signs[1]).mean(axis=1)
