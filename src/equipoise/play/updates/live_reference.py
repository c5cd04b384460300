"""Refits with further models in memory: live references, auxiliary heads, token weights of a frozen policy."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, START, State
from equipoise.play.updates.basic import Refit
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import Activations, AuxiliaryModels, TokenWeighting, World


@dataclass(frozen=True, kw_only=True)
class LiveRefit:
    """`Refit` beside the anchors whose whole next-token law the objective reads, alive, and a network if it reads one.

    network        trained with the policy, from round to round; it is not there when the policy samples. Of its fields
                   those that are parameters of the method follow them.
    network_rate   its learning rate as a multiple of the policy's: a policy's suits no new network.
    """

    network: AuxiliaryHead | None = None
    network_rate: float = 1.0
    memory: ClassVar[tuple[str, ...]] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        return () if self.network is None else ("network_rate",)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        alive = {name: method.anchors[name] for name in method.loss.reads.divergences}
        if self.network is not None and self.network.input == "layers" and not alive:
            raise ValueError(f"{method.name}: its network reads a frozen model's layers, and none is alive")
        network: Any = self.network
        if network is not None:
            known = method.parameters()
            network = replace(network, **{f.name: known[f.name] for f in fields(network) if f.name in known})
        beside = AuxiliaryModels(alive, network, self.network_rate)
        return {START: world.fit(state, rows, anchors, method.loss, beside=beside)}

    def describe(self) -> str:
        network = "" if self.network is None else f", and {type(self.network).__name__} trained with it"
        return f"refit from the last iterate beside a live reference{network}"


@dataclass(frozen=True, kw_only=True)
class TokenWeighted:
    """Any update, on tokens that are weighed by what a frozen policy makes of them; see `World.token_weights`."""

    base: Update = field(default_factory=Refit)
    by: TokenWeighting = field(default_factory=Activations)
    memory: ClassVar[tuple[str, ...]] = ()
    parameters: ClassVar[tuple[str, ...]] = ()

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        weighed = replace(rows, token_weights=world.token_weights(state, rows, self.by, INITIAL))
        return self.base.move(method, world, state, weighed, anchors)

    def describe(self) -> str:
        return f"tokens weighed by the reference's {self.by.name}, then {self.base.describe()}"
