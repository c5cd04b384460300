"""Fits with more in memory than the policy: live references and an auxiliary head trained jointly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.data.collate import Ids, Response, collate
from equipoise.policy.scoring.live_reference import Frozen, Live, LiveScorer
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
        frozen: Mapping[str, Frozen],
        recipe: AuxiliaryHead | None = None,
        rate: float = 1.0,
    ) -> None:
        self.frozen, self.recipe, self.rate = frozen, recipe, rate
        super().__init__(*about)
        if self.objective.reads.response_weights:
            raise TrainingError(
                f"{type(self.objective).__name__} weighs responses, which is not done beside live models"
            )

    @property
    def learned(self) -> set[str]:
        return set(self.recipe.outputs) if self.recipe is not None else set()

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
        laws = {name: frozen.law(batch) for name, frozen in self.frozen.items()}
        found: Live = self.scorer(batch, list(laws.values()))
        reads = self.objective.reads

        def laid(values: Tensor) -> Tensor:
            return values.to(found.logp).unflatten(0, batch.shape)

        drifts = dict(zip(laws, map(laid, found.divergences), strict=True))
        given = Given(
            laid(found.logp),
            found.mask.unflatten(0, batch.shape),
            {name: laid(found.tokens[name]) for name in reads.token_weights if name in found.tokens},
            {name: drifts[name] for name in reads.divergences},
            {name: laid(found.rows[name]) for name in reads.auxiliary},
        )
        return given if reads.tokens else given.summed()
