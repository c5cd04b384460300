"""Self-labelling by the policy's implicit reward: SPA, and CREAM with consistency-regularised labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from equipoise.play.capabilities import ResponseScores, needing
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import distinct
from equipoise.play.rows import Rows
from equipoise.play.state import BEFORE, INITIAL, START, Floats, State
from equipoise.play.world import World

Consistency = Literal["none", "corpus", "prompt"]


@dataclass(frozen=True, kw_only=True)
class ImplicitRewardLabels(Pairing):
    """Implicit-reward labels: the responses with the largest and smallest log pi_t(y) - log pi_0(y), as one pair.

    No oracle queries. Adding c(x) to either log-prob changes nothing; equal rewards and equal responses give no pair.

    reference     pi_0, "initial" or "base", the policy before the run's phases.
    seeded        round 1 keeps recorded pairs and their labels.
    consistency   "none": hard labels. Else soft ones, the probability C that the label is right:

        C(x) = ( KendallTau(reward of pi_t, reward of pi_t-1) + 1 )/2,    in "corpus" its mean over the round's prompts

    floor         least C; 0 is the authors', 1/2 learns nothing where the two policies disagree more than chance.

    pi_t-1 is the previous policy, in round 1 pi_0; while it is pi_0 itself, with rewards all 0, mean token log-probs
    rank instead. C = 1: both give the same order; below 1/2 a pair is learned in reverse. That may happen in round 1
    to rewards that are right, because log pi_t - log pi_0 there meets log pi_0 itself: wherever pi_t is flatter than
    pi_0, as after imitating every distinct answer once, the two disagree more often than not.

    Source: Kim et al. 2024 (2406.04412) for the labels; Wang et al. 2024 (2410.12735) for the consistency, "corpus" and
    "prompt" being its "avg" and "dyn"; both read in their authors' code. That a round starts from pi_t and uses it as
    the reference is RECALLED. Raises ValueError for an unknown consistency or a floor outside [0, 1/2].
    """

    reference: str = INITIAL
    seeded: bool = True
    consistency: Consistency = "none"
    floor: float = 0.0

    capabilities: ClassVar[tuple[type, ...]] = (ResponseScores,)

    def __post_init__(self) -> None:
        if self.consistency not in get_args(Consistency):
            raise ValueError(
                f"consistency must be one of {', '.join(get_args(Consistency))}, got {self.consistency!r}"
            )
        if not 0 <= self.floor <= 0.5:
            raise ValueError(f"floor must lie in [0, 1/2], got {self.floor!r}")

    @property
    def parameters(self) -> tuple[str, ...]:
        return () if self.consistency == "none" else ("consistency", "floor")

    def check(self, width: int) -> None:
        at_least(2, "best against worst", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        if self.seeded and state.round == 1:
            return rows
        self.check(rows.responses.shape[1])
        scoring = needing(world, ResponseScores)
        own, length = scoring.scores(state, rows, START)
        first, _ = scoring.scores(state, rows, self.reference)
        reward = own - first
        label = np.ones(len(rows))
        if self.consistency != "none":
            who = BEFORE if state.round > 1 else self.reference
            same = state.policies[who] == state.policies[self.reference]
            before = first / length if same else scoring.scores(state, rows, who)[0] - first
            label = (kendall(reward, before) + 1) / 2
        if self.consistency == "corpus":
            label = np.full(len(rows), np.average(label, weights=rows.weight))
        label = np.maximum(label, self.floor)
        pairs = rows.pair(reward.argmax(axis=1), reward.argmin(axis=1), label)
        return distinct(pairs.take(reward.max(axis=1) > reward.min(axis=1)))

    def describe(self) -> str:
        how = {
            "none": "with hard labels",
            "corpus": "labelled by its mean consistency with the previous policy",
            "prompt": "labelled by its consistency with the previous policy, prompt by prompt",
        }[self.consistency]
        return f"best against worst by the policy's own implicit reward, {how}"


def kendall(first: Floats, second: Floats) -> Floats:
    """[N] Kendall's tau of two scores [N, K] of the same responses: mean over pairs of the product of their signs."""
    i, j = np.triu_indices(first.shape[1], 1)
    signs = [np.sign(scores[:, i] - scores[:, j]) for scores in (first, second)]
    return (signs[0] * signs[1]).mean(axis=1)
