"""K-choice curation: one of a policy's samples is kept by a Bradley-Terry choice, and mixed with real data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import RandomDraws, ResponseScores, needing
from equipoise.play.needs import DEMONSTRATIONS, ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import logit
from equipoise.play.players.recorded import Demonstrations
from equipoise.play.rows import Rows
from equipoise.play.state import START, Floats, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Curated(Pairing):
    """Of the K responses of a row one is kept, and imitated (self-consuming training with curation).

        P(keep y_k) = softmax_k( gamma r(y_k) ),    r(y_k) = 1/K sum_j logit P(y_k beats y_j)

    gamma   sharpness of the choice; 1 is a Bradley-Terry choice. For Bradley-Terry preferences r is the reward up to a
            constant of the row.
    real    share of recorded responses among all that are imitated, in [0, 1); 0 asks for none.

    A row's weight is its number of tokens times how often it counts, so that a weighted mean over tokens is the mean
    log-likelihood of whole responses. Text draws the choice; an exact game takes every choice with its probability.
    Raises ValueError for a negative gamma and a share out of range.

    Source: Ferbach et al. 2024 (2407.09499).
    """

    gamma: float = 1.0
    real: float = 0.5
    parameters: ClassVar[tuple[str, ...]] = ("gamma", "real")
    capabilities: ClassVar[tuple[type, ...]] = (ResponseScores,)

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma!r}")
        if not 0 <= self.real < 1:
            raise ValueError(f"real must be a share in [0, 1), got {self.real!r}")

    @property
    def needs(self) -> Needs:
        return ORACLE | DEMONSTRATIONS if self.real else ORACLE

    def check(self, width: int) -> None:
        at_least(2, "a choice among them", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        kept = self._kept(world, state, rows)
        kept = replace(kept, reward=np.ones((len(kept), 1)))
        if not self.real:
            return replace(kept, weight=kept.weight * _lengths(world, state, kept))
        recorded = Demonstrations().write(world, state)
        of_kept, of_recorded = (_lengths(world, state, part) for part in (kept, recorded))
        # recorded responses already weigh their tokens
        often = recorded.weight / of_recorded
        kept = replace(kept, weight=(1 - self.real) * kept.weight / kept.weight.sum() * of_kept)
        recorded = replace(recorded, weight=self.real * often / often.sum() * of_recorded)
        joined = Rows.join([replace(part, prob=None) for part in (kept, recorded)])
        size = len(joined) / joined.weight.sum()  # mean weight 1, as rows of responses have
        return replace(joined, weight=joined.weight * size, writers=("mixed",))

    def _kept(self, world: World, state: State, rows: Rows) -> Rows:
        """One column: the response that is kept."""
        chance = choice_of(self.gamma * _rewards(world, rows))
        count = rows.responses.shape[1]
        if isinstance(world, RandomDraws):
            draws = needing(world, RandomDraws).uniforms(state, "curation", len(rows))
            passed = chance.cumsum(axis=1) <= draws[:, None]
            return rows.columns([np.minimum(passed.sum(axis=1), count - 1)])
        parts = [rows.columns([np.full(len(rows), column)]) for column in range(count)]
        weighted = [replace(p, weight=p.weight * chance[:, k]) for k, p in enumerate(parts)]
        return Rows.join(weighted)

    def describe(self) -> str:
        mixed = f", mixed with {self.real:.0%} of recorded ones" if self.real else ""
        return f"one of a prompt's responses, by a Bradley-Terry choice{mixed}"


def choice_of(reward: Floats) -> Floats:
    """[N, K] probability that each response of a row is kept: the softmax of their rewards."""
    power = np.exp(reward - reward.max(axis=1, keepdims=True))
    chance: Floats = power / power.sum(axis=1, keepdims=True)
    return chance


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


def _lengths(world: World, state: State, rows: Rows) -> Floats:
    """[N] tokens of each row's response."""
    return needing(world, ResponseScores).scores(state, rows, START)[1][:, 0]
