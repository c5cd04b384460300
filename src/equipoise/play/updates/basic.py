"""Policy updates: refits, gradient steps, mirror, extragradient and optimistic steps, magnets, averages.

Every update returns the policies that moved, the next round's starting policy under START. `Refit` and `Descend`
move one policy; the others build on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from equipoise.core.objectives import Dpo
from equipoise.core.objectives.base import not_negative
from equipoise.play.capabilities import ParameterAverages, needing
from equipoise.play.needs import NOTHING, PAIRS, Needs
from equipoise.play.rows import Rows
from equipoise.play.state import AVERAGE, FITTED, LAZY, MAGNET, OPPONENT, POLICY, START, State
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World

OWN = "own"  # a round's policy before its steps on recorded pairs


@dataclass(frozen=True)
class Refit(Update):
    """Minimise the round's objective, starting from the policy at the start of the round."""

    fits: ClassVar[bool] = True

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        return {START: world.fit(state, rows, anchors, method.loss)}

    def describe(self) -> str:
        return "refit from the last iterate"


@dataclass(frozen=True, kw_only=True)
class Descend(Update):
    """Gradient steps on the round's objective; the next round samples from the moved policy.

    rate    step size in exact games, see `World.descend`; a language model uses `train.lr`, its batches and epochs,
            and carries the optimizer's moments from round to round.
    """

    rate: float = 0.1
    parameters: ClassVar[tuple[str, ...]] = ("rate",)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        return {START: world.descend(state, rows, anchors, method.loss, rate=self.rate)}

    def describe(self) -> str:
        return "gradient steps"


@dataclass(frozen=True, kw_only=True)
class WithRecorded(Update):
    """Gradient steps, followed in every round by DPO steps on recorded pairs at the method's beta.

    offline   learning rate of the steps on recorded pairs, relative to the method's own; 0 skips them and needs no
              pairs.
    parts     rounds per pass over the pairs.

    The method's own steps come first, so that they start from the policy that wrote the responses.
    """

    base: Descend = field(default_factory=Descend)
    offline: float = 1.0
    parts: int = 10
    parameters: ClassVar[tuple[str, ...]] = ("offline", "parts")

    def __post_init__(self) -> None:
        not_negative(offline=self.offline)

    @property
    def needs(self) -> Needs:
        return PAIRS if self.offline else NOTHING

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        if not self.offline:
            return self.base.move(method, world, state, rows, anchors)
        pairs = world.recorded(state)
        pairs = pairs.part(state.round - 1, self.parts)
        fixed = world.anchors(state, pairs, {"reference": method.anchors["reference"]})
        own = world.descend(state, rows, anchors, method.loss, rate=self.base.rate, name=OWN)
        after, dpo = state.with_policies(**{OWN: own}), Dpo(beta=method.parameters()["beta"])
        rate, speed = self.base.rate, self.offline
        return {START: world.descend(after, pairs, fixed, dpo, rate=rate, start=OWN, speed=speed)}

    def describe(self) -> str:
        return (
            f"{self.base.describe()}, then DPO steps on recorded pairs"
            if self.offline
            else self.base.describe()
        )


@dataclass(frozen=True, kw_only=True)
class MirrorStep(Update):
    """Online mirror descent: one gradient step on the squared loss against the current policy.

    eta     step size of the game update; on exact games with uniform pairs the rate eta beta / 4 of the squared loss
            gives theta + eta beta (theta_ref + P(. > q)/beta - theta), the mirror step.
    """

    eta: float = 0.5
    parameters: ClassVar[tuple[str, ...]] = ("eta",)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        return {START: world.descend(state, rows, anchors, method.loss, rate=_game_rate(method))}

    def describe(self) -> str:
        return "one gradient"


@dataclass(frozen=True, kw_only=True)
class Extragradient(Update):
    """Extragradient step: the second gradient is taken at the same policy with the same optimizer state, on fresh
    responses of the half-step policy to other prompts, against the half-step policy as the opponent (Zhou et al. 2025,
    2503.08942).

        half = theta_t - g(theta_t; opponent pi_t),    theta_{t+1} = theta_t - g(theta_t; opponent pi_half)

    eta   as in `MirrorStep`.

    In an exact game the players' responses are enumerated, so that the second gradient differs in its opponent alone,
    where they are those of the uniform distribution.
    """

    eta: float = 0.5
    parameters: ClassVar[tuple[str, ...]] = ("eta",)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        rate, loss = _game_rate(method), method.loss
        half = world.descend(state, rows, anchors, loss, rate=rate, name="half")
        ahead = state.with_policies(**{OPPONENT: half})
        writing = replace(ahead.with_policies(**{START: half}), draw=1)
        fresh = world.stage(writing, "sampling-again", lambda: method.players.write(world, writing))
        again = world.stage(writing, "judging-again", lambda: method.pairing.form(world, writing, fresh))
        anchors = world.anchors(ahead, again, method.anchors)
        return {START: world.descend(ahead, again, anchors, loss, rate=rate)}

    def describe(self) -> str:
        return "extragradient: two gradients, one step"


def _game_rate(method: Rules) -> float:
    known = method.parameters()
    return float(known["eta"] * known["beta"] / 4)


@dataclass(frozen=True)
class Optimistic(Update):
    """Optimistic mirror descent: two fits of one dataset, both anchored at the lazy iterate (2502.16852).

    lazy' = fit anchored at lazy;  pi_next = fit anchored at lazy'.
    """

    memory: ClassVar[tuple[str, ...]] = (LAZY,)
    fits: ClassVar[bool] = True

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        lazy = world.fit(state, rows, anchors, method.loss, start=LAZY, name=LAZY)
        ahead = state.with_policies(**{LAZY: lazy})
        anchors = world.anchors(ahead, rows, method.anchors)
        return {START: world.fit(ahead, rows, anchors, method.loss, start=LAZY), LAZY: lazy}

    def describe(self) -> str:
        return "optimistic: two fits of one dataset"


@dataclass(frozen=True, kw_only=True)
class Extrapolated(Update):
    """Nesterov extrapolation after a refit: theta_{t+1} = fit_{t+1} + alpha (fit_{t+1} - fit_t) (2410.06293).

    For tables of log-probs this is pi_{t+1} ~ fit_{t+1} (fit_{t+1}/fit_t)^alpha. alpha = 0 is `Refit`.
    """

    alpha: float = 0.3
    memory: ClassVar[tuple[str, ...]] = (FITTED,)
    fits: ClassVar[bool] = True
    capabilities: ClassVar[tuple[type, ...]] = (ParameterAverages,)
    parameters: ClassVar[tuple[str, ...]] = ("alpha",)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        fitted = world.fit(state, rows, anchors, method.loss, name=FITTED)
        after = state.with_policies(latest=fitted)
        ahead = needing(world, ParameterAverages).combine(
            after, {"latest": 1 + self.alpha, FITTED: -self.alpha}, name=POLICY
        )
        return {START: ahead, FITTED: fitted}

    def describe(self) -> str:
        return "refit from the last iterate, extrapolated"


@dataclass(frozen=True, kw_only=True)
class Magnetic(Update):
    """Magnetic mirror descent: any update, its magnet reset to the policy every `every` rounds (2410.16714).

    to    the policy that it is reset to: START, the round's own, or another one that the base moves (an average).
    """

    base: Update = field(default_factory=Refit)
    every: int = 50
    to: str = START
    parameters: ClassVar[tuple[str, ...]] = ("every",)

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, MAGNET)

    @property
    def fits(self) -> bool:
        return self.base.fits

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        moved = self.base.move(method, world, state, rows, anchors)
        return moved if state.round % self.every else {**moved, MAGNET: moved[self.to]}

    def describe(self) -> str:
        to = "" if self.to == START else f" to the {self.to}"
        return f"{self.base.describe()}, the magnet moved{to} every {self.every} rounds"


@dataclass(frozen=True, kw_only=True)
class Averaged(Update):
    """Exponential moving average of the policies of any update: average <- decay average + (1 - decay) pi.

    Parameters are averaged (in a table: log-probs, so the average is geometric).
    """

    base: Update = field(default_factory=Refit)
    decay: float = 0.5
    parameters: ClassVar[tuple[str, ...]] = ("decay",)
    capabilities: ClassVar[tuple[type, ...]] = (ParameterAverages,)

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, AVERAGE)

    @property
    def fits(self) -> bool:
        return self.base.fits

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        moved = self.base.move(method, world, state, rows, anchors)
        after = state.with_policies(latest=moved[START])
        average = needing(world, ParameterAverages).combine(
            after, {AVERAGE: self.decay, "latest": 1 - self.decay}, name=AVERAGE
        )
        return {**moved, AVERAGE: average}

    def describe(self) -> str:
        return f"{self.base.describe()}; a moving average of the policies"
