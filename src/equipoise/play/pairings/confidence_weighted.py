"""Confidence-weighted labels (UPO, Wang et al. 2024, 2409.11212): smoothed by an estimator's uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.special import entr

from equipoise.core.objectives.base import positive
from equipoise.oracles.learned import feature_reward
from equipoise.oracles.learned.feature_reward import Fitting, LearnedReward
from equipoise.play.capabilities import LearnedRewards, OracleVotes, needing
from equipoise.play.needs import ORACLE, ORACLE_WITH_VOTES, PAIRS, Needs
from equipoise.play.pairings.learned_reward import labelled
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.sampled import Scored, distinct
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State
from equipoise.play.world import World


def disagreement(prob: Tensor) -> Tensor:
    """Mutual information (BALD) B = H(mean_t p_t) - mean_t H(p_t) of passes p [T, ...]; nats, 0 (all agree) to log 2.

    H is the binary entropy. B is the same for p and 1 - p.
    """

    def entropy(p: Tensor) -> Tensor:
        return entr(p) + entr(1 - p)

    return (entropy(prob.mean(dim=0)) - entropy(prob).mean(dim=0)).clamp(0, log(2))


@dataclass(frozen=True, kw_only=True)
class ConfidenceWeighted(Pairing):
    """Confidence-weighted pairs: every response of the better half against every one of the worse half.

        c = (1 - B/log 2)^mu,    P(y_w beats y_l) = (1 + c)/2,    weight c

    B         disagreement of several votes (see `disagreement`).
    mu        > 0, how fast confidence falls with B.
    estimator whose votes. "learned": `passes` dropout passes of a Bradley-Terry reward on frozen features, learned from
              recorded pairs in round 1; each pass drops a share `dropout` of the last hidden layer, the same units for
              both responses. "oracle": the oracle's own, the members of an ensemble or passes of a reward model with
              dropout; no pairs are needed then.

    A loss of labelled pairs becomes the conservative one with label-flip rate e = (1 - c)/2: if all passes agree the
    pair is certain; at maximal disagreement its target margin is 0 and so is its weight. Halves are by win rates within
    the prompt. The paper's own smoothing, 1/(1 + P) of a weight P <= 1, never falls below one half and would unlearn
    every label; this one is DERIVED, and so is the estimator. Raises ValueError for parameters out of range.
    """

    mu: float = 1.0
    passes: int = 10
    dropout: float = 0.1
    estimator: Literal["learned", "oracle"] = "learned"
    fitting: Fitting = field(default_factory=Fitting)
    parameters: ClassVar[tuple[str, ...]] = ("mu", "passes", "dropout", "estimator")

    @property
    def needs(self) -> Needs:
        return PAIRS | ORACLE if self.estimator == "learned" else ORACLE_WITH_VOTES

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (LearnedRewards,) if self.estimator == "learned" else (OracleVotes,)

    def __post_init__(self) -> None:
        positive(mu=self.mu)
        if self.estimator not in ("learned", "oracle"):
            raise ValueError(f"the estimator is 'learned' or the 'oracle', got {self.estimator!r}")
        if self.passes < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"need passes >= 1 and dropout in [0, 1), got {self.passes!r} and {self.dropout!r}"
            )

    def check(self, width: int) -> None:
        if width < 2 or width % 2:
            raise ValueError(
                f"confidence-weighted pairs need an even number of responses per prompt, got {width}"
            )

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        count = rows.responses.shape[1]
        self.check(count)
        scored = Scored().form(world, state, rows)
        ranked = (-scored.rewards).argsort(axis=1, kind="stable").T
        parts = [
            rows.pair(better, worse, np.ones(len(rows)))
            for better in ranked[: count // 2]
            for worse in ranked[count // 2 :]
        ]
        pairs = distinct(Rows.join(parts))
        sure = self.sure(world, state, pairs)
        return replace(pairs, prob=(1 + sure) / 2, weight=pairs.weight * sure)

    def sure(self, world: World, state: State, pairs: Rows) -> Floats:
        """[N] confidence c of each pair."""
        if self.estimator == "oracle":
            first, second = np.zeros(len(pairs), np.intp), np.ones(len(pairs), np.intp)
            return self.confidence(torch.from_numpy(needing(world, OracleVotes).votes(pairs, first, second)))
        learning = needing(world, LearnedRewards)
        kept = learning.cached(
            state,
            "estimator",
            lambda seed: feature_reward.fit(
                *labelled(world, state, world.recorded(state)), seed=seed, fitting=self.fitting
            ),
        )
        estimator = LearnedReward.of(kept)
        with torch.no_grad():
            better, worse = estimator.hidden(learning.features(state, pairs).double()).unbind(dim=1)
            parts = (better - worse) * estimator.head.weight[0]
            draw = torch.Generator().manual_seed(
                state.round
            )  # which units are dropped, the same in every run
            stay = torch.rand(self.passes, 1, parts.shape[1], generator=draw) >= self.dropout
            prob = (parts * stay / (1 - self.dropout)).sum(dim=2).sigmoid()
            return self.confidence(prob)

    def confidence(self, prob: Tensor) -> Floats:
        """[N] confidence c of pairs with votes p [T, N]."""
        return ((1 - disagreement(prob) / log(2)) ** self.mu).numpy()

    def describe(self) -> str:
        whose = "an estimator's" if self.estimator == "learned" else "the oracle's"
        return f"the better half against the worse half, labelled by {whose} confidence"
