"""Teacher responses as players: a model behind a server writes the first response of a row, a policy the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from equipoise.play.capabilities import TeacherResponses, needing
from equipoise.play.decoding import Decode
from equipoise.play.players.protocol import Players, name_of
from equipoise.play.rows import Rows
from equipoise.play.state import START, State, Who
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Taught(Players):
    """A teacher's response to each prompt, followed by `own` samples of a policy (DNO with a teacher).

    parts   rounds per pass over the prompts; each takes every parts-th.
    temperature, top_p   decoding of the policy that belongs to the method, see `play.decoding`; None: the run's.
    """

    own: int
    by: Who = START
    parts: int = 1
    temperature: float | None = None
    top_p: float | None = None
    capabilities: ClassVar[tuple[type, ...]] = (TeacherResponses,)

    @property
    def decode(self) -> Decode:
        """The method's own decoding."""
        return Decode(temperature=self.temperature, top_p=self.top_p)

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("parts", *self.decode.given())

    @property
    def width(self) -> int:
        return 1 + self.own

    def write(self, world: World, state: State) -> Rows:
        prompts = world.prompts(state).part(state.round - 1, self.parts)
        taught = needing(world, TeacherResponses).taught(state, prompts)
        return world.sample(state, taught, self.by, self.own, self.decode)

    def writing(self, samples: int) -> Taught:
        return replace(self, own=samples)

    def taught(self) -> Taught:
        return self

    def describe(self) -> str:
        return f"a teacher's response and {self.own} by {name_of(self.by)}"
