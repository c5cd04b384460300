"""What learns RLP's rewards: reward models of the language game's transformer, and perceptrons on features."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from equipoise.claims.draws import moved_seed, torch_draws
from equipoise.claims.rewards.rlp_bandits import BOTTLENECK, Bandit, Labelled
from equipoise.oracles.learned import feature_reward
from equipoise.oracles.learned.feature_reward import Fitting as FeatureFitting
from equipoise.oracles.learned.feature_reward import LearnedReward
from equipoise.oracles.learned.feature_reward import Views as FeatureViews
from equipoise.playground import LanguageGame, model_path, reference_policy
from equipoise.reward_models.fit import Fitting, fit
from equipoise.reward_models.head import Head
from equipoise.reward_models.pairs import LabelledPair, tokenised
from equipoise.reward_models.read import outputs
from equipoise.reward_models.start import Beginning, begin
from equipoise.reward_models.train import automatic_rate
from equipoise.worlds.text.run_rewards import Views

LABELS, EPOCHS, BATCH, TOKENS = 1000, 8, 64, 8192
PROMPTS, RESPONSES, FEW_LABELS = 40, 12, 200
SHARED, OWNED = 4, 8  # features of the prompt, which its responses share, and of the response
FITTING = FeatureFitting(steps=500, batch=64, rate=1e-3, width=32, code=8)


class TeaHouse:
    """The language game's 64 training requests with the host alone as judge, whose score is the true reward."""

    def __init__(self) -> None:
        self.game = LanguageGame("transitive")
        self.prompts = [self.game.prompts[x] for x in self.game.train]
        at = torch.tensor(self.game.train)
        self.bandit = Bandit(self.game.reward[at], reference_policy()[at].double().log(), LABELS)

    @cached_property
    def _tokens(self) -> list[list[tuple[int, ...]]]:
        texts = begin(model_path(), Head()).texts
        return [[tuple(texts.answer(p, a)) for a in self.game.responses] for p in self.prompts]

    def reward_model(self, pairs: Labelled, views: Tensor | None, seed: int) -> Tensor:
        """[X, A] rewards of a reward model trained on the pairs, as a run of `rlp_uml` or `rlp_spg` trains it."""
        beginning = begin(model_path(), Head(), seed=moved_seed(seed))
        rows = [self._pair(beginning, k, *each) for k, each in enumerate(zip(*pairs, strict=True))]
        remedies = None
        if views is not None:
            seen = [
                (list(self._tokens[x][a]), list(self._tokens[x][b]))
                for x, own in enumerate(views.tolist())
                for a, b in zip(own[::2], own[1::2], strict=False)
            ]
            steps = EPOCHS * math.ceil(len(rows) / BATCH)
            remedies = Views(seen, BOTTLENECK, steps, moved_seed(seed), beginning.model).remedies()
        fitting = Fitting(epochs=EPOCHS, batch=BATCH, lr=automatic_rate(beginning))
        fit(beginning.model, rows, fitting=fitting, seed=moved_seed(seed), remedies=remedies)
        flat = [tokens for own in self._tokens for tokens in own]
        return outputs(beginning.finish().eval(), flat, TOKENS)[:, 0].view(len(self.prompts), -1)

    def _pair(self, beginning: Beginning, place: int, x: Tensor, y: Tensor, weight: Tensor) -> LabelledPair:
        prompt = self.prompts[int(x)]
        first, second = (self.game.responses[int(a)] for a in y)
        pair = LabelledPair(
            id=str(place),
            group=prompt,
            prompt=prompt,
            first=first,
            second=second,
            prob=(1.0,),
            weight=float(weight),
        )
        return tokenised(pair, beginning.texts, Head())


class Featured:
    """Responses known by features [X, A, F]. The true reward is not linear in them, and the reference leans to it."""

    def __init__(self, seed: int) -> None:
        draw = torch_draws(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        shared = normal(PROMPTS, 1, SHARED).expand(-1, RESPONSES, -1)
        self.features = torch.cat([shared, normal(PROMPTS, RESPONSES, OWNED)], dim=2)
        width = SHARED + OWNED
        reward = torch.tanh(self.features @ normal(width, 16) / width**0.5 * 2) @ normal(16) / 2
        self.bandit = Bandit(
            reward, (0.5 * reward + normal(PROMPTS, RESPONSES)).log_softmax(dim=1), FEW_LABELS
        )

    def perceptron(self, pairs: Labelled, views: Tensor | None, seed: int) -> Tensor:
        """[X, A] rewards of the perceptron of `reward=features`."""
        shown = self.features[pairs.prompts[:, None], pairs.responses]
        ones = torch.ones(len(shown), dtype=torch.float64)
        seen, bottleneck = None, 0.0
        if views is not None:
            pairs_of = self.features[torch.arange(PROMPTS)[:, None], views].unflatten(1, (-1, 2))
            alike = pairs_of.flatten(0, 1)
            seen, bottleneck = FeatureViews(alike, torch.ones(len(alike), dtype=torch.float64)), BOTTLENECK
        made = feature_reward.fit(
            shown,
            ones,
            pairs.weight,
            seed=moved_seed(seed),
            views=seen,
            bottleneck=bottleneck,
            fitting=FITTING,
        )
        return LearnedReward.of(made).rewards(self.features)
