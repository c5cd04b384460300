"""Reward learning on policy (RLP; Lang et al. 2024, 2403.19279): the reward model is retrained on policy samples.

(1) train a reward on recorded pairs, (2) policy gradient, (3) sample from the policy, (4) retrain the reward with the
samples, (5) policy gradient from the initial policy with the new reward. The samples are unlabelled, and used in two
ways: RLP-UML makes the reward's last layer keep what two samples of one prompt share (an information bottleneck,
`oracles.learned.bottleneck`); RLP-SPG pairs the policy's most frequent answer with its other answers
(`oracles.learned.agreement`).

The reward is a reward model (`reward_models`) that begins as the initial policy, or a perceptron on its features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from equipoise.oracles.learned import feature_reward
from equipoise.oracles.learned.agreement import Same, confident_pair, same_by, same_meaning, same_text
from equipoise.oracles.learned.feature_reward import Fitting, LearnedReward, Views
from equipoise.play.capabilities import (
    LearnedRewards,
    Meanings,
    ResponseTexts,
    RewardData,
    RewardModels,
    RunCache,
    needing,
)
from equipoise.play.needs import PAIRS, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.rows import Rows
from equipoise.play.state import REACHED, Floats, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class ByLearnedReward(Pairing):
    """Rewards from a model learned on recorded pairs, and relearned every `every` rounds.

    every        rounds of policy gradient per reward model.
    own          samples per prompt of the policy reached, used to relearn the reward.
    bottleneck   RLP-UML: weight lambda of the bottleneck loss on two samples of a prompt, >= 0; 0 omits it.
    confidence   RLP-SPG: minimal share of the largest cluster in a prompt's samples, in [0, 1]; None makes no pairs.
    reward       "model": a reward model of the policy's size (`RewardModels`), trained whole; "features": a perceptron
                 on the initial policy's mean hidden states (`LearnedRewards`).
    reward_epochs   passes over the pairs of a "model".
    meaning      which responses of a prompt count as one: "text" by `same`; "states" by the cosine of the initial
                 policy's mean hidden states, less their mean over all samples; else the folder of a model: where one
                 of its labels is "entailment", by entailment in both directions, as the paper; else by the cosine of
                 its embeddings.
    similarity   least cosine of one meaning, in (-1, 1]; entailment does not read it.
    same         whether two texts have the same meaning.

    The reward is learned when first needed and cached with the run, under the first round that uses it.
    """

    every: int = 50
    own: int = 10
    bottleneck: float = 0.0
    confidence: float | None = None
    reward: Literal["features", "model"] = "features"
    reward_epochs: int = 1
    meaning: str = "text"
    similarity: float = 0.9
    fitting: Fitting = field(default_factory=Fitting)
    same: Same = same_text
    parameters: ClassVar[tuple[str, ...]] = (
        "every",
        "own",
        "bottleneck",
        "confidence",
        "reward",
        "reward_epochs",
        "meaning",
        "similarity",
    )
    needs: ClassVar[Needs] = PAIRS

    def __post_init__(self) -> None:
        if self.every < 1 or self.own < 2:
            raise ValueError(f"need every >= 1 round and own >= 2 samples, got {self.every} and {self.own}")
        if self.reward not in ("features", "model"):
            raise ValueError(f"reward must be features or model, got {self.reward!r}")
        if self.reward_epochs < 1 or not -1 < self.similarity <= 1:
            raise ValueError(
                f"need reward_epochs >= 1 and similarity in (-1, 1], got {self.reward_epochs!r} and {self.similarity!r}"
            )

    @property
    def capabilities(self) -> tuple[type, ...]:
        found: list[type] = [RewardModels] if self.reward == "model" else [LearnedRewards, RunCache]
        if self.confidence is not None:
            found.append(ResponseTexts)
            if self.meaning == "states":
                found.append(LearnedRewards)
            if self.meaning not in ("text", "states"):
                found.append(Meanings)
        return tuple(dict.fromkeys(found))

    @property
    def models(self) -> tuple[str, ...]:
        return (self.meaning,) if Meanings in self.capabilities else ()

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        return replace(rows, reward=self.scores(world, state, rows, (state.round - 1) // self.every))

    def scores(self, world: World, state: State, rows: Rows, phase: int) -> Floats:
        """[N, K] rewards by the reward model of a phase of the run; a phase is `every` rounds."""
        name = f"round-{phase * self.every + 1:03d}"
        if self.reward == "model":
            models = needing(world, RewardModels)
            trained = models.trained_reward(state, name, lambda seed: self.data(world, state, phase))
            return models.reward_scores(rows, trained)
        kept = needing(world, RunCache).cached(
            state, name, lambda seed: self.learn(world, state, phase, seed)
        )
        features = needing(world, LearnedRewards).features(state, rows)
        return LearnedReward.of(kept).rewards(features).numpy()

    def data(self, world: World, state: State, phase: int) -> RewardData:
        """Training data of a phase's reward: recorded pairs, and what the variant makes of the policy's samples."""
        pairs, views = _certain(world.recorded(state)), None
        if phase:
            own = world.sample(state, world.prompts(state), REACHED, self.own)
            views = own if self.bottleneck else None
            if self.confidence is not None:
                made = self.made(world, state, own, self.scores(world, state, own, phase - 1))
                pairs = Rows.join([pairs, replace(made, fresh=None)]) if len(made) else pairs
        return RewardData(pairs, views, self.bottleneck, self.reward_epochs)

    def learn(self, world: World, state: State, phase: int, seed: int) -> Mapping[str, Tensor]:
        """The perceptron's tensors, fitted to `data`."""
        data = self.data(world, state, phase)
        return feature_reward.fit(
            *labelled(world, state, data.pairs),
            seed=seed,
            views=None if data.views is None else _views(world, state, data.views),
            bottleneck=self.bottleneck,
            fitting=self.fitting,
        )

    def made(self, world: World, state: State, own: Rows, rewards: Floats) -> Rows:
        """RLP-SPG's pairs; all responses outside the cluster are losers and share the row's weight (no random draw)."""
        assert self.confidence is not None
        kept: list[tuple[int, int, int, float]] = []
        for row, (texts, same) in enumerate(self._meanings(world, state, own)):
            choice = confident_pair(texts, rewards[row].tolist(), self.confidence, same)
            if choice:
                best, rest = choice
                kept += [(row, best, loser, 1 / len(rest)) for loser in rest]
        at = np.array([k[:3] for k in kept], dtype=int).reshape(-1, 3)
        pairs = own.take(at[:, 0]).pair(at[:, 1], at[:, 2], np.ones(len(at)))
        return replace(pairs, weight=pairs.weight * np.array([k[3] for k in kept]))

    def _meanings(self, world: World, state: State, own: Rows) -> Iterator[tuple[list[str], Same]]:
        """Each prompt's responses, and which of them say the same."""
        texts = needing(world, ResponseTexts).texts(own)
        if self.meaning == "text":
            yield from ((group, self.same) for group in texts)
            return
        if self.meaning == "states":
            vectors = needing(world, LearnedRewards).features(state, own).double()
            vectors = vectors - vectors.mean(dim=(0, 1))
            for group, those in zip(texts, vectors, strict=True):
                yield group, same_meaning(group, those, self.similarity)
            return
        tables = needing(world, Meanings).same_meanings(own, self.meaning, self.similarity)
        for group, table in zip(texts, tables, strict=True):
            yield group, same_by(group, table)

    def describe(self) -> str:
        what = "a reward model trained on" if self.reward == "model" else "a reward learned from"
        return f"every response with {what} recorded pairs, relearned every {self.every} rounds"


def _certain(pairs: Rows) -> Rows:
    """The pairs with their labels written out."""
    return replace(pairs, prob=np.ones(len(pairs)) if pairs.prob is None else pairs.prob, reward=None)


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
