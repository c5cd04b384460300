"""Players: who writes the responses of a round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from equipoise.play.rows import Rows
from equipoise.play.world import BEFORE, INITIAL, START, State, World


class Players(Protocol):
    def write(self, world: World, state: State) -> Rows: ...

    def describe(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """`samples` responses per prompt, all written by one policy."""

    by: str
    samples: int

    def write(self, world: World, state: State) -> Rows:
        return world.write(state, world.prompts(state), self.by, self.samples)

    def describe(self) -> str:
        who = {START: "the policy itself", BEFORE: "the previous iterate", INITIAL: "the reference"}[self.by]
        return f"{self.samples} responses by {who}"


def Self(*, samples: int) -> Written:
    """The policy as it stands at the start of the round (pi_t)."""
    return Written(by=START, samples=samples)


def Previous(*, samples: int) -> Written:
    """The policy at the start of the round before; the initial policy in round 1."""
    return Written(by=BEFORE, samples=samples)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The data's pairs, each followed by `own` responses of the policy to the same prompt (SPAC: 1)."""

    own: int = 0

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state)
        return world.write(state, rows, START, self.own) if self.own else rows

    def describe(self) -> str:
        return "recorded pairs" + (f" and {self.own} response by the policy itself" if self.own else "")
