"""Fits with more in memory than the policy: frozen models that are alive, and a small network trained beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from equipoise.core.objectives.base import (
    beside_of,
    divergences_of,
    reads_tokens,
    reads_weight,
    token_weights_of,
)
from equipoise.data.collate import Ids, Response, collate
from equipoise.play.fit import Fit, Given, TrainingError
from equipoise.play.rows import Rows
from equipoise.play.updates import Anchors, Moved, Refit, Update
from equipoise.play.world import INITIAL, START, Activations, Beside, State, Weighing, World
from equipoise.policy.live import Frozen, Live, LiveScorer
from equipoise.policy.networks import Network

if TYPE_CHECKING:
    from equipoise.play.method import Method


class LiveFit(Fit):
    """A fit beside frozen models and a network, whose forward passes are made anew in every step.

    frozen    anchor -> its frozen copy; the first one's layers are read by a network that reads layers.
    recipe    of the network that `policy.network` is, if there is one; `rate` multiplies its learning rate.
    """

    alive: ClassVar[bool] = True

    def __init__(
        self, *about: Any, frozen: Mapping[str, Frozen], recipe: Network | None = None, rate: float = 1.0
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
        laws = {name: frozen.law(batch) for name, frozen in self.frozen.items()}
        found: Live = self.scorer(batch, list(laws.values()))
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


@dataclass(frozen=True, kw_only=True)
class LiveRefit:
    """`Refit` beside the anchors whose whole next-token law the objective reads, alive, and a network if it reads one.

    network        trained with the policy, from round to round; it is not there when the policy samples. Of its fields
                   those that are parameters of the method follow them.
    network_rate   its learning rate as a multiple of the policy's: a policy's suits no new network.
    """

    network: Network | None = None
    network_rate: float = 1.0
    memory: ClassVar[tuple[str, ...]] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        return () if self.network is None else ("network_rate",)

    def move(self, method: Method, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        alive = {name: method.anchors[name] for name in divergences_of(method.loss)}
        if self.network is not None and self.network.reads == "layers" and not alive:
            raise ValueError(f"{method.name}: its network reads a frozen model's layers, and none is alive")
        network: Any = self.network
        if network is not None:
            known = method.parameters()
            network = replace(network, **{f.name: known[f.name] for f in fields(network) if f.name in known})
        beside = Beside(alive, network, self.network_rate)
        return {START: world.fit(state, rows, anchors, method.loss, beside=beside)}

    def describe(self) -> str:
        network = "" if self.network is None else f", and {type(self.network).__name__} trained with it"
        return f"refit from the last iterate beside a live reference{network}"


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Any update, on tokens that are weighed by what a frozen policy makes of them; see `World.token_weights`."""

    base: Update = field(default_factory=Refit)
    by: Weighing = field(default_factory=Activations)
    memory: ClassVar[tuple[str, ...]] = ()
    parameters: ClassVar[tuple[str, ...]] = ()

    def move(self, method: Method, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        weighed = replace(rows, token_weights=world.token_weights(state, rows, self.by, INITIAL))
        return self.base.move(method, world, state, weighed, anchors)

    def describe(self) -> str:
        return f"tokens weighed by the reference's {self.by.name}, then {self.base.describe()}"
