"""Players: who writes the responses of a round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from equipoise.play.rows import Rows
from equipoise.play.world import AVERAGE, BEFORE, INITIAL, START, UNIFORM, Geometric, Past, State, Who, World


class Players(Protocol):
    """parameters   names of its fields that are the method's parameters."""

    @property
    def parameters(self) -> tuple[str, ...]: ...

    def write(self, world: World, state: State) -> Rows: ...

    def writing(self, samples: int) -> Players:
        """The same players, writing so many responses per prompt. Raises ValueError where they write none."""
        ...

    def describe(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """`samples` responses per prompt, all written by one policy."""

    by: Who
    samples: int
    parameters: ClassVar[tuple[str, ...]] = ()

    def write(self, world: World, state: State) -> Rows:
        return world.write(state, world.prompts(state), self.by, self.samples)

    def writing(self, samples: int) -> Written:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} responses by {name_of(self.by)}"


def Self(*, samples: int) -> Written:
    """The policy as it stands at the start of the round (pi_t)."""
    return Written(by=START, samples=samples)


def Previous(*, samples: int) -> Written:
    """The policy at the start of the round before; the initial policy in round 1."""
    return Written(by=BEFORE, samples=samples)


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """`samples` responses per prompt by the geometric mixture pi_t^(1 - mixture) pi_ref^mixture."""

    samples: int
    mixture: float = 0.125
    parameters: ClassVar[tuple[str, ...]] = ("mixture",)

    def write(self, world: World, state: State) -> Rows:
        return world.write(state, world.prompts(state), Geometric(share=self.mixture), self.samples)

    def writing(self, samples: int) -> Mixed:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} responses by a mixture of the policy and the reference"


@dataclass(frozen=True, kw_only=True)
class Several:
    """Some responses by each of several policies, in this order: {START: 1, INITIAL: 1} is one by each."""

    by: tuple[tuple[Who, int], ...]
    parameters: ClassVar[tuple[str, ...]] = ()

    def write(self, world: World, state: State) -> Rows:
        rows = world.prompts(state)
        for who, count in self.by:
            rows = world.write(state, rows, who, count)
        return rows

    def writing(self, samples: int) -> Several:
        """`samples` times as many by each."""
        return replace(self, by=tuple((who, samples * count) for who, count in self.by))

    def describe(self) -> str:
        return ", ".join(f"{count} by {name_of(who)}" for who, count in self.by)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The data's pairs, each followed by `own` responses to the same prompt by a policy (SPAC: 1 by itself).

    parts   how many rounds share one pass over the data; each takes every parts-th pair.
    """

    own: int = 0
    by: Who = START
    parts: int = 1
    parameters: ClassVar[tuple[str, ...]] = ("parts",)

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state)
        rows = rows.take(np.arange((state.round - 1) % self.parts, len(rows), self.parts))
        return world.write(state, rows, self.by, self.own) if self.own else rows

    def writing(self, samples: int) -> Recorded:
        if not self.own:
            raise ValueError("the data's pairs are all there is; nobody writes responses")
        return replace(self, own=samples)

    def describe(self) -> str:
        own = f" and {self.own} response{'s' if self.own > 1 else ''} by {name_of(self.by)}"
        return "recorded pairs" + (own if self.own else "")


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The data's preferred responses, each followed by `own` responses of a policy: a teacher and its pupil.

    parts   as in `Recorded`.
    """

    own: int
    by: Who = START
    parts: int = 1
    parameters: ClassVar[tuple[str, ...]] = ("parts",)

    def write(self, world: World, state: State) -> Rows:
        return world.write(state, _preferred(world, state, self.parts), self.by, self.own)

    def writing(self, samples: int) -> Targets:
        return replace(self, own=samples)

    def describe(self) -> str:
        return f"recorded preferred responses and {self.own} by {name_of(self.by)}"


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The data's preferred responses, each followed by itself with one segment written anew by a policy (SAPO).

    longest   tokens of a segment at most; a response no longer than that is written anew as a whole.
    parts     as in `Recorded`.
    """

    longest: int = 256
    by: Who = AVERAGE
    parts: int = 1
    parameters: ClassVar[tuple[str, ...]] = ("longest", "parts")

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"longest must be at least one token, got {self.longest!r}")

    def write(self, world: World, state: State) -> Rows:
        return world.rewrite(state, _preferred(world, state, self.parts), self.by, self.longest)

    def writing(self, samples: int) -> Segments:
        if samples != 1:
            raise ValueError(f"one segment is written per response, got {samples}")
        return self

    def describe(self) -> str:
        return f"recorded preferred responses, each again with a segment by {name_of(self.by)}"


def _preferred(world: World, state: State, parts: int) -> Rows:
    """One column: the response that each recorded pair prefers, of the round's part of the data."""
    rows = world.recorded(state)
    rows = rows.take(np.arange((state.round - 1) % parts, len(rows), parts))
    return rows.preferred_first().columns([np.zeros(len(rows), int)])


def name_of(who: Who) -> str:
    """A policy's name in a sentence."""
    if isinstance(who, Geometric):
        return "a mixture of two policies"
    if isinstance(who, Past):
        return "a past iterate, drawn for each prompt"
    names = {
        START: "the policy itself",
        BEFORE: "the previous iterate",
        INITIAL: "the reference",
        AVERAGE: "the moving average",
        UNIFORM: "nobody: every response alike",
    }
    return names.get(who, who)
