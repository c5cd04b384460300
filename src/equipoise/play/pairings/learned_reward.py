"""Reward learning on policy (RLP; Lang et al. 2024, 2403.19279): the reward model is retrained on policy samples.

(1) train a reward on recorded pairs, (2) policy gradient, (3) sample from the policy, (4) retrain the reward with the
samples, (5) policy gradient from the initial policy with the new reward. The samples are unlabelled, and used in two
ways: RLP-UML makes the reward's last layer keep what two samples of one prompt share (an information bottleneck,
`oracles.learned.bottleneck`); RLP-SPG pairs the policy's most frequent answer with its other answers
(`oracles.learned.agreement`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.oracles.learned import feature_reward
from equipoise.oracles.learned.agreement import Same, confident_pair, same_text
from equipoise.oracles.learned.feature_reward import Fitting, LearnedReward, Views
from equipoise.play.capabilities import LearnedRewards, needing
from equipoise.play.needs import PAIRS, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.rows import Rows
from equipoise.play.state import REACHED, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class ByLearnedReward(Pairing):
    """Rewards from a model learned on recorded pairs, and relearned every `every` rounds.

    every        rounds of policy gradient per reward model.
    own          samples per prompt of the policy reached, used to relearn the reward.
    bottleneck   RLP-UML: weight lambda of the bottleneck loss on two samples of a prompt, >= 0; 0 omits it.
    confidence   RLP-SPG: minimal share of the largest cluster in a prompt's samples, in [0, 1]; None makes no pairs.
    same         whether two responses have the same meaning.

    The reward is learned when first needed and cached with the run, under the first round that uses it.
    """

    every: int = 50
    own: int = 10
    bottleneck: float = 0.0
    confidence: float | None = None
    fitting: Fitting = field(default_factory=Fitting)
    same: Same = same_text
    parameters: ClassVar[tuple[str, ...]] = ("every", "own", "bottleneck", "confidence")
    needs: ClassVar[Needs] = PAIRS
    capabilities: ClassVar[tuple[type, ...]] = (LearnedRewards,)

    def __post_init__(self) -> None:
        if self.every < 1 or self.own < 2:
            raise ValueError(f"need every >= 1 round and own >= 2 samples, got {self.every} and {self.own}")

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        reward = self.reward(world, state, (state.round - 1) // self.every)
        return replace(
            rows, reward=reward.rewards(needing(world, LearnedRewards).features(state, rows)).numpy()
        )

    def reward(self, world: World, state: State, phase: int) -> LearnedReward:
        """The reward model of a phase of the run; a phase is `every` rounds."""
        name = f"round-{phase * self.every + 1:03d}"
        return LearnedReward.of(
            needing(world, LearnedRewards).cached(
                state, name, lambda seed: self.learn(world, state, phase, seed)
            )
        )

    def learn(self, world: World, state: State, phase: int, seed: int) -> Mapping[str, Tensor]:
        data = world.recorded(state)
        pairs, prob, weight = labelled(world, state, data)
        views = None
        if phase:
            own = world.sample(state, world.prompts(state), REACHED, self.own)
            if self.bottleneck:
                views = _views(world, state, own)
            if self.confidence is not None:
                made = self.made(world, state, own, self.reward(world, state, phase - 1))
                more = labelled(world, state, made)
                pairs, prob, weight = (
                    torch.cat(two) for two in zip((pairs, prob, weight), more, strict=True)
                )
        return feature_reward.fit(
            pairs,
            prob,
            weight,
            seed=seed,
            views=views,
            bottleneck=self.bottleneck,
            fitting=self.fitting,
        )

    def made(self, world: World, state: State, own: Rows, reward: LearnedReward) -> Rows:
        """RLP-SPG's pairs; all responses outside the cluster are losers and share the row's weight (no random draw)."""
        assert self.confidence is not None
        values = reward.rewards(needing(world, LearnedRewards).features(state, own)).tolist()
        kept: list[tuple[int, int, int, float]] = []
        for row, texts in enumerate(needing(world, LearnedRewards).texts(own)):
            choice = confident_pair(texts, values[row], self.confidence, self.same)
            if choice:
                best, rest = choice
                kept += [(row, best, loser, 1 / len(rest)) for loser in rest]
        at = np.array([k[:3] for k in kept], dtype=int).reshape(-1, 3)
        pairs = own.take(at[:, 0]).pair(at[:, 1], at[:, 2], np.ones(len(at)))
        return replace(pairs, weight=pairs.weight * np.array([k[3] for k in kept]))

    def describe(self) -> str:
        return (
            f"every response with a reward learned from recorded pairs, relearned every {self.every} rounds"
        )


def labelled(world: World, state: State, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """(features [N, 2, F], P(first beats second) [N], weight [N])."""
    prob = np.ones(len(rows)) if rows.prob is None else rows.prob
    return (
        needing(world, LearnedRewards).features(state, rows),
        torch.from_numpy(prob),
        torch.from_numpy(rows.weight),
    )


def _views(world: World, state: State, own: Rows) -> Views:
    """Disjoint pairs of samples of each prompt."""
    features = needing(world, LearnedRewards).features(state, own)
    pairs = features[:, : features.shape[1] // 2 * 2].unflatten(1, (-1, 2))
    weight = torch.from_numpy(own.weight).repeat_interleave(pairs.shape[1])
    return Views(pairs.flatten(0, 1), weight)
