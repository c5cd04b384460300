"""Remedies for noisy labels within the training loop: treated labels, a contrastive loss, MetaRM's step.

Each part becomes what `fit.Remedies` has a place for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.models.errors import ModelError
from equipoise.reward_models.batches import padded
from equipoise.reward_models.contrastive import On, Swav, dropout_views, represented, simcse_loss
from equipoise.reward_models.fit import Batch, Remedies
from equipoise.reward_models.head import Head
from equipoise.reward_models.meta import ascended, spread
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.noise import Recipe, Strength, Treated
from equipoise.reward_models.pairs import LabelledPair

Responses = Sequence[Sequence[tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Settings of the contrastive loss that is added to a reward model's.

    term       "simcse" or "swav"
    on         the pair's "difference" of states, chosen less rejected, or both "responses"
    weight     beta of L = L_rm + beta L_cl
    dropout    of the two views, for a body that has none of its own
    clusters   prototypes of SwAV
    """

    term: Literal["simcse", "swav"]
    on: On = "difference"
    weight: float = 0.1
    dropout: float = 0.1
    clusters: int = 16


class ContrastiveLoss:
    """The contrastive loss of a batch, for `fit.Remedies.extra`: every pair carries the batch's mean.

    The two views are two runs of a body that has dropout, else two dropout masks on the states of one run. Negatives
    are the other pairs of the same forward pass, of which `train.tokens` says how many there are.

    width    D, of the states.
    """

    def __init__(self, contrast: Contrast, width: int, seed: int) -> None:
        self.contrast = contrast
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.swav = Swav(width, contrast.clusters) if contrast.term == "swav" else None

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """SwAV's prototypes, which are trained with the model and belong to no checkpoint."""
        return tuple(self.swav.parameters()) if self.swav is not None else ()

    def __call__(self, model: RewardModel, batch: Batch) -> Tensor:
        states = batch.read.states
        if states is None:
            raise ModelError("this reward model gives no states to contrast")
        if has_dropout(model):
            again = model.read(batch.ids, batch.mask, states=True).states
            assert again is not None
            views = self._rows(states, batch), self._rows(again, batch)
        else:
            views = dropout_views(self._rows(states, batch), self.contrast.dropout)
        first, second = (view.float() for view in views)
        term = simcse_loss if self.swav is None else self.swav.to(first.device)
        loss = term(first, second)
        return self.contrast.weight * loss.expand(len(batch.pairs))

    def _rows(self, states: Tensor, batch: Batch) -> Tensor:
        won = torch.tensor([pair.prob[0] >= 0.5 for pair in batch.pairs], device=states.device)
        chosen, rejected = (torch.where(w, batch.first, batch.second) for w in (won, ~won))
        return represented(states[chosen], states[rejected], self.contrast.on)


def has_dropout(model: nn.Module) -> bool:
    """Whether two runs of the model in training differ by its own dropout."""
    return any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules()) or any(
        getattr(part, "attention_dropout", 0.0) > 0
        for part in model.modules()
        if isinstance(getattr(part, "attention_dropout", None), float)
    )


class MetaStep:
    """MetaRM's step, for `fit.Remedies.within`: a gradient is taken one ascent step up the spread of sampled rewards.

    responses    for each prompt the tokens of two or more responses (with it) that the current policy wrote
    rate         eta of the ascent
    prompts      drawn again for each step

    Raises ModelError for no prompt, or one with fewer than two different responses.
    """

    def __init__(self, responses: Responses, *, rate: float, prompts: int, seed: int) -> None:
        if not responses or any(len(set(own)) < 2 for own in responses):
            raise ModelError("MetaRM needs prompts with two or more different responses each")
        self.responses, self.rate, self.prompts, self.seed = list(responses), rate, prompts, seed

    @contextmanager
    def __call__(self, model: RewardModel, step: int) -> Iterator[None]:
        draw = np.random.default_rng([self.seed, step, 2])
        count = min(self.prompts, len(self.responses))
        chosen = [self.responses[i] for i in draw.choice(len(self.responses), count, replace=False)]
        with ascended(model.trained(), lambda: self._spread(model, chosen), self.rate):
            yield

    @staticmethod
    def _spread(model: RewardModel, chosen: Responses) -> Tensor:
        ids, mask = padded([text for own in chosen for text in own], model.pad)
        rewards = model.reward(model.read(ids, mask).values).float().split([len(own) for own in chosen])
        return torch.stack([spread(own[None]) for own in rewards]).mean()


def check_applies(head: Head, *, strength: bool, contrast: bool, meta: bool) -> None:
    """Raises ModelError for a remedy that a head of this kind cannot have."""
    if strength and head.kind == "bt" and len(head.attributes) > 1:
        raise ModelError(
            f"an ensemble's strength is that of one reward; this head has {len(head.attributes)} attributes"
        )
    if contrast and head.kind == "pair":
        raise ModelError("a pairwise model reads both responses in one text; there is nothing to contrast")
    if meta and head.kind != "bt":
        raise ModelError(f"MetaRM spreads rewards, which a head of kind {head.kind!r} has none of")


def remedies_of(
    pairs: Sequence[LabelledPair],
    recipe: Recipe,
    strength: Strength | None,
    *,
    contrast: ContrastiveLoss | None = None,
    meta: MetaStep | None = None,
) -> Remedies:
    """What the training loop does about noise: the recipe on these pairs, and whichever losses are wanted."""
    treated = treat(pairs, recipe, strength)
    ids = [pair.id for pair in pairs]
    smoothing = dict(zip(ids, treated.smoothing.tolist(), strict=True))
    return Remedies(
        flips={name for name, turned in zip(ids, treated.flipped.tolist(), strict=True) if turned},
        smoothing=recipe.smooth if recipe.smooth_on == "all" else smoothing,
        margins=dict(zip(ids, treated.margin.tolist(), strict=True)) if recipe.margin else None,
        extra=contrast,
        parameters=contrast.parameters if contrast else (),
        within=meta,
    )


def treat(pairs: Sequence[LabelledPair], recipe: Recipe, strength: Strength | None) -> Treated:
    """The recipe on the first label of each pair; one that is missing counts as a tie."""
    prob = torch.tensor([pair.prob[0] for pair in pairs], dtype=torch.float64).nan_to_num(0.5)
    return recipe.treat(prob, strength)
