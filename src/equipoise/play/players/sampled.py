"""Sampled responses: from the policy, a mixture, or several policies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from equipoise.play.decoding import Decode
from equipoise.play.players.protocol import Players, name_of
from equipoise.play.rows import Rows
from equipoise.play.state import START, Geometric, State, Who
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Written(Players):
    """`samples` responses per prompt, all sampled from one policy.

    temperature, top_k, top_p   decoding that belongs to the method, see `play.decoding`; those that are given are
                                parameters of the method, the others the run's `sampling` settings.
    """

    by: Who
    samples: int
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    exchangeable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _ = self.decode  # refuses what is out of range

    @property
    def decode(self) -> Decode:
        """The method's own decoding."""
        return Decode(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.decode.given())

    @property
    def width(self) -> int:
        return self.samples

    def write(self, world: World, state: State) -> Rows:
        return world.sample(state, world.prompts(state), self.by, self.samples, self.decode)

    def writing(self, samples: int) -> Written:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} responses by {name_of(self.by)}"


def Self(
    *, samples: int, temperature: float | None = None, top_k: int | None = None, top_p: float | None = None
) -> Written:
    """The policy as it stands at the start of the round (pi_t)."""
    return Written(by=START, samples=samples, temperature=temperature, top_k=top_k, top_p=top_p)


@dataclass(frozen=True, kw_only=True)
class Mixed(Players):
    """`samples` responses per prompt from the geometric mixture pi_t^(1 - mixture) pi_ref^mixture."""

    samples: int
    mixture: float = 0.125
    parameters: ClassVar[tuple[str, ...]] = ("mixture",)
    mixes: ClassVar[bool] = True
    exchangeable: ClassVar[bool] = True

    @property
    def width(self) -> int:
        return self.samples

    def write(self, world: World, state: State) -> Rows:
        return world.sample(state, world.prompts(state), Geometric(share=self.mixture), self.samples)

    def writing(self, samples: int) -> Mixed:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} responses by a mixture of the policy and the reference"


@dataclass(frozen=True, kw_only=True)
class Several(Players):
    """Responses by several policies, in order: ((START, 1), (INITIAL, 1)) is one by each."""

    by: tuple[tuple[Who, int], ...]

    @property
    def width(self) -> int:
        return sum(count for _, count in self.by)

    def write(self, world: World, state: State) -> Rows:
        rows = world.prompts(state)
        for who, count in self.by:
            rows = world.sample(state, rows, who, count)
        return rows

    def writing(self, samples: int) -> Several:
        """`samples` times as many by each."""
        return replace(self, by=tuple((who, samples * count) for who, count in self.by))

    def describe(self) -> str:
        return ", ".join(f"{count} by {name_of(who)}" for who, count in self.by)
