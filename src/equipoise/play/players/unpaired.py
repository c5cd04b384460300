"""Unpaired feedback: recorded responses, each desirable or undesirable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from equipoise.play.needs import UNPAIRED, Needs
from equipoise.play.players.protocol import Players, name_of, nothing_is_sampled
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, START, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class UnpairedResponses(Players):
    """Every recorded response with its label (KTO); pairs are split."""

    needs: ClassVar[Needs] = UNPAIRED
    width: ClassVar[int] = 1

    def write(self, world: World, state: State) -> Rows:
        return world.recorded(state).alone()

    @property
    def sampled(self) -> bool:
        return False

    def writing(self, samples: int) -> UnpairedResponses:
        raise nothing_is_sampled()

    def describe(self) -> str:
        return "recorded responses, each with its label; pairs are split"

    def account(self, recorded: Rows) -> str:
        up, down = _counts(recorded.alone())
        pairs = recorded.responses.shape[1] == 2
        split = f"{len(recorded):,} pairs split: " if pairs else ""
        return f"{split}{up + down:,} responses to learn from, {up:,} desirable and {down:,} undesirable"


@dataclass(frozen=True, kw_only=True)
class DispreferredResponses(Players):
    """Recorded undesirable responses (of a pair, the dispreferred one), each with `own` samples of a policy.

    by    who writes the samples, new ones in every round: "initial", or "start", the policy as the round finds it.
    """

    own: int = 0
    by: str = INITIAL
    needs: ClassVar[Needs] = UNPAIRED

    def __post_init__(self) -> None:
        if self.by not in (INITIAL, START):
            raise ValueError(f"by must be {INITIAL} or {START}, got {self.by!r}")

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("own", "by") if self.own else ("own",)

    @property
    def width(self) -> int:
        return 1 + self.own

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state).alone()
        rows = rows.take(rows.rewards[:, 0] < 0.5)
        return world.sample(state, rows, self.by, self.own) if self.own else rows

    @property
    def sampled(self) -> bool:
        return self.own > 0

    def writing(self, samples: int) -> DispreferredResponses:
        if not self.own:
            raise nothing_is_sampled()
        return replace(self, own=samples)

    def describe(self) -> str:
        own = f", each with {self.own} by {name_of(self.by)}" if self.own else ""
        return f"recorded undesirable responses{own}"

    def account(self, recorded: Rows) -> str:
        up, down = _counts(recorded.alone())
        return f"{down:,} undesirable responses to learn from; {up:,} desirable ones are not used"


def _counts(rows: Rows) -> tuple[int, int]:
    """Numbers of desirable and of undesirable responses."""
    up = int((rows.rewards[:, 0] >= 0.5).sum())
    return up, len(rows) - up
