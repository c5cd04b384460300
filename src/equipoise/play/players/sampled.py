"""Players that sample: the policy, a mixture, or several policies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from equipoise.play.players.protocol import name_of
from equipoise.play.rows import Rows
from equipoise.play.state import START, Geometric, State, Who
from equipoise.play.world import World


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
