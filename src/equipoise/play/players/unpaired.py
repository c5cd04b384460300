"""Unpaired feedback: recorded responses, each with a label of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from equipoise.play.players.protocol import name_of
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, State, Who
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class UnpairedResponses:
    """Every recorded response with its label; pairs are taken apart."""

    parameters: ClassVar[tuple[str, ...]] = ()

    def write(self, world: World, state: State) -> Rows:
        return world.recorded(state).alone()

    def writing(self, samples: int) -> UnpairedResponses:
        raise ValueError("the data's responses are all there is; nobody writes any")

    def describe(self) -> str:
        return "recorded responses, each with its label; pairs are taken apart"

    def account(self, recorded: Rows) -> str:
        """What becomes of the recorded rows, for the reader."""
        up, down = _thumbs(recorded.alone())
        pairs = recorded.responses.shape[1] == 2
        apart = f"{len(recorded):,} pairs taken apart: " if pairs else ""
        return f"{apart}{up + down:,} responses to learn from, {up:,} desirable and {down:,} undesirable"


@dataclass(frozen=True, kw_only=True)
class DispreferredResponses:
    """The recorded responses that are undesirable (of a pair, the one not preferred), each with `own` samples."""

    own: int = 0
    by: Who = INITIAL
    parameters: ClassVar[tuple[str, ...]] = ("own",)

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state).alone()
        assert rows.reward is not None
        rows = rows.take(rows.reward[:, 0] < 0.5)
        return world.write(state, rows, self.by, self.own) if self.own else rows

    def writing(self, samples: int) -> DispreferredResponses:
        if not self.own:
            raise ValueError("the data's responses are all there is; nobody writes any")
        return replace(self, own=samples)

    def describe(self) -> str:
        own = f", each with {self.own} by {name_of(self.by)}" if self.own else ""
        return f"recorded undesirable responses{own}"

    def account(self, recorded: Rows) -> str:
        """What becomes of the recorded rows, for the reader."""
        up, down = _thumbs(recorded.alone())
        return f"{down:,} undesirable responses to learn from; {up:,} desirable ones are not used"


def _thumbs(rows: Rows) -> tuple[int, int]:
    assert rows.reward is not None
    up = int((rows.reward[:, 0] >= 0.5).sum())
    return up, len(rows) - up
