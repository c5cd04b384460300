"""Live references and auxiliary heads in memory during a refit; token weights from a frozen policy."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, get_args

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.core.step_weights import StepForm
from equipoise.play.capabilities import (
    Activations,
    AuxiliaryModels,
    LiveReferences,
    StepDifferences,
    TokenWeighting,
    TokenWeights,
    needing,
)
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, START, State
from equipoise.play.updates.basic import Refit
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class LiveRefit(Update):
    """`Refit` with live references: anchors stay in memory if the objective reads their full next-token distribution,
    and so does an auxiliary head if it reads one.

    network        an auxiliary head trained jointly with the policy, from round to round; not used for sampling.
                   Fields that are parameters of the method take the method's values.
    network_rate   its learning rate as a multiple of the policy's, which is too low for a new network.
    """

    network: AuxiliaryHead | None = None
    network_rate: float = 1.0
    fits: ClassVar[bool] = True
    capabilities: ClassVar[tuple[type, ...]] = (LiveReferences,)

    @property
    def parameters(self) -> tuple[str, ...]:
        return () if self.network is None else ("network_rate",)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        references = {name: method.anchors[name] for name in method.loss.reads.divergences}
        if self.network is not None and self.network.input == "layers" and not references:
            raise ValueError(
                f"{method.name}: its auxiliary head reads hidden states of a reference, but no reference is in memory"
            )
        head: Any = self.network
        if head is not None:
            known = method.parameters()
            head = replace(head, **{f.name: known[f.name] for f in fields(head) if f.name in known})
        models = AuxiliaryModels(references, head, self.network_rate)
        return {START: needing(world, LiveReferences).fit_with(state, rows, anchors, method.loss, models)}

    def describe(self) -> str:
        head = "" if self.network is None else f" and an auxiliary head, {type(self.network).__name__}"
        return f"refit from the last iterate with a live reference{head}"


@dataclass(frozen=True)
class ExtrapolatedLogitsRefit(Update):
    """`Refit` with a live reference in the rounds whose objective extrapolates logits away from it (SPA).

    An exact game, which keeps no model, extrapolates its log-probs instead: there a response is one token.
    """

    fits: ClassVar[bool] = True

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        references = {name: method.anchors[name] for name in method.loss.reads.extrapolated}
        if not references or not isinstance(world, LiveReferences):
            return {START: world.fit(state, rows, anchors, method.loss)}
        return {START: world.fit_with(state, rows, anchors, method.loss, AuxiliaryModels(references))}

    def describe(self) -> str:
        return "refit from the last iterate, with a live reference where logits are extrapolated"


@dataclass(frozen=True, kw_only=True)
class StepWeighted(Update):
    """Any update with adaptive step weights (TPO) from the reference's states; see `capabilities.StepDifferences`.

    mark    text that ends a step, such as a newline or a full stop; "" makes every token a step.
    form    how similarity becomes a weight: "difference" weighs steps that differ from the other paths' steps,
            "release" those that are like the first path's.
    """

    base: Update = field(default_factory=Refit)
    mark: str = "\n"
    form: StepForm = "difference"
    parameters: ClassVar[tuple[str, ...]] = ("mark", "form")
    capabilities: ClassVar[tuple[type, ...]] = (TokenWeights,)

    def __post_init__(self) -> None:
        if self.form not in get_args(StepForm):
            raise ValueError(f"form must be one of {', '.join(get_args(StepForm))}, got {self.form!r}")

    @property
    def fits(self) -> bool:
        return self.base.fits

    @property
    def memory(self) -> tuple[str, ...]:
        return self.base.memory

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        by = StepDifferences(mark=self.mark, form=self.form)
        return TokenWeighted(base=self.base, by=by).move(method, world, state, rows, anchors)

    def describe(self) -> str:
        return f"steps weighted by the reference's {StepDifferences.name}, then {self.base.describe()}"


@dataclass(frozen=True, kw_only=True)
class TokenWeighted(Update):
    """Any update with token weights from a frozen policy's hidden states; see `capabilities.TokenWeights`."""

    base: Update = field(default_factory=Refit)
    by: TokenWeighting = field(default_factory=Activations)
    capabilities: ClassVar[tuple[type, ...]] = (TokenWeights,)

    @property
    def memory(self) -> tuple[str, ...]:
        return self.base.memory

    @property
    def fits(self) -> bool:
        return self.base.fits

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        weights = needing(world, TokenWeights).token_weights(state, rows, self.by, INITIAL)
        return self.base.move(method, world, state, replace(rows, token_weights=weights), anchors)

    def describe(self) -> str:
        return f"tokens weighted by the reference's {self.by.name}, then {self.base.describe()}"
