"""K-choice curation: of a policy's samples one is kept by a Bradley-Terry choice, to be imitated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import RandomDraws, ResponseScores, needing
from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import logit
from equipoise.play.rows import Rows
from equipoise.play.state import START, Floats, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Curated(Pairing):
    """Of the K responses of a row one is kept, labelled desirable (self-consuming training with curation).

        P(keep y_k) = softmax_k( gamma r(y_k) ),    r(y_k) = 1/K sum_j logit P(y_k beats y_j)

    gamma   sharpness of the choice; 1 is a Bradley-Terry choice. For Bradley-Terry preferences r is the reward up to a
            constant of the row.
    draw    draw the choice; otherwise every response is kept with its probability as a factor of the weight, which is
            the expectation over the draw and what exact games take.

    A row weighs its response's tokens, as recorded demonstrations do: a weighted mean over tokens is then the mean
    log-likelihood of whole responses. Raises ValueError for a negative gamma.

    Source: Ferbach et al. 2024 (2407.09499).
    """

    gamma: float = 1.0
    draw: bool = True
    parameters: ClassVar[tuple[str, ...]] = ("gamma",)
    needs: ClassVar[Needs] = ORACLE

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma!r}")

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (RandomDraws, ResponseScores) if self.draw else (ResponseScores,)

    def check(self, width: int) -> None:
        at_least(2, "a choice among them", width)

    def comparisons(self, width: int) -> int:
        return 1 if self.draw else width

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        chance = choice_of(self.gamma * _rewards(world, rows))
        kept = self._drawn(world, state, rows, chance) if self.draw else _expected(rows, chance)
        tokens = needing(world, ResponseScores).scores(state, kept, START)[1][:, 0]
        return replace(kept, weight=kept.weight * tokens, reward=np.ones((len(kept), 1)))

    def _drawn(self, world: World, state: State, rows: Rows, chance: Floats) -> Rows:
        draws = needing(world, RandomDraws).uniforms(state, "curation", len(rows))
        passed = (chance.cumsum(axis=1) <= draws[:, None]).sum(axis=1)
        return rows.columns([np.minimum(passed, rows.responses.shape[1] - 1)])

    def describe(self) -> str:
        return "one of a prompt's responses is kept, by a Bradley-Terry choice"


def choice_of(reward: Floats) -> Floats:
    """[N, K] probability that each response of a row is kept: the softmax of their rewards."""
    power = np.exp(reward - reward.max(axis=1, keepdims=True))
    chance: Floats = power / power.sum(axis=1, keepdims=True)
    return chance


def _expected(rows: Rows, chance: Floats) -> Rows:
    """Every response of every row, weighted by the probability that it is kept."""
    parts = [rows.columns([np.full(len(rows), column)]) for column in range(chance.shape[1])]
    return Rows.join([replace(part, weight=part.weight * chance[:, k]) for k, part in enumerate(parts)])


def _rewards(world: World, rows: Rows) -> Floats:
    """[N, K] mean log-odds against all of the row, itself included (0); each pair is asked once."""
    count = rows.responses.shape[1]
    odds = np.zeros((len(rows), count))
    for a in range(count):
        for b in range(a + 1, count):
            lead = logit(world.compare(rows, np.full(len(rows), a), np.full(len(rows), b)))
            odds[:, a] += lead
            odds[:, b] -= lead
    return odds / count
