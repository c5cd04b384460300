"""Fits with more in memory than the policy: live references and an auxiliary head trained jointly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.core.objectives.base import (
    beside_of,
    divergences_of,
    reads_tokens,
    reads_weight,
    token_weights_of,
)
from equipoise.data.collate import Ids, Response, collate
from equipoise.policy.scoring.live_reference import FrozenReference, LiveScorer, LiveScores
from equipoise.worlds.text.fit import Fit, Given, TrainingError


class LiveFit(Fit):
    """A fit beside frozen models and a network, whose forward passes are made anew in every step.

    frozen    anchor -> its frozen copy; the first one's layers are read by a network that reads layers.
    recipe    of the network that `policy.network` is, if there is one; `rate` multiplies its learning rate.
    """

    alive: ClassVar[bool] = True

    def __init__(
        self,
        *about: Any,
        frozen: Mapping[str, FrozenReference],
        recipe: AuxiliaryHead | None = None,
        rate: float = 1.0,
    ) -> None:
        self.frozen, self.recipe, self.rate = frozen, recipe, rate
        super().__init__(*about)
        if reads_weight(self.objective):
            raise TrainingError(
                f"{type(self.objective).__name__} weighs responses, which is not done beside live models"
            )

    @property
    def learned(self) -> set[str]:
        return set(self.recipe.says) if self.recipe is not None else set()

    def groups(self) -> list[dict[str, Any]]:
        network = self.policy.network
        own = [{"params": [p for _, p in self.policy.parameters()], "rate": 1.0}]
        if network is None or self.recipe is None:
            return own
        decay = self.recipe.weight_decay
        return [*own, {"params": list(network.parameters()), "weight_decay": decay, "rate": self.rate}]

    def module(self) -> nn.Module:
        return LiveScorer(self.policy.scorer, self.policy.network)

    def logps(self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]) -> Given:
        batch = collate(prompts, responses, self.policy.pad).to(self.policy.device)
        laws = {name: frozen.next_token_distribution(batch) for name, frozen in self.frozen.items()}
        found: LiveScores = self.scorer(batch, list(laws.values()))
        read = divergences_of(self.objective), token_weights_of(self.objective), beside_of(self.objective)

        def laid(values: Tensor) -> Tensor:
            return values.to(found.logp).unflatten(0, batch.shape)

        drifts = dict(zip(laws, map(laid, found.divergences), strict=True))
        given = Given(
            laid(found.logp),
            found.mask.unflatten(0, batch.shape),
            {name: laid(found.tokens[name]) for name in read[1] if name in found.tokens},
            {name: drifts[name] for name in read[0]},
            {name: laid(found.rows[name]) for name in read[2]},
        )
        return given if reads_tokens(self.objective) else given.summed()
