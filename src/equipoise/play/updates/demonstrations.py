"""Recorded demonstrations mixed into what a round imitates, so that a self-consuming loop stays near its data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from equipoise.play.needs import DEMONSTRATIONS, NOTHING, Needs
from equipoise.play.players.recorded import Demonstrations
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.updates.basic import Refit
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class WithDemonstrations(Update):
    """An update on single responses to imitate, with recorded demonstrations among them in every round.

        share of recorded responses in the rows' total weight = real

    real    in [0, 1); 0 asks for no recorded responses. Rows weigh their tokens: it is a share of tokens.

    Raises ValueError for a share out of range, and for an objective with anchors.
    """

    base: Update = field(default_factory=Refit)
    real: float = 0.5
    parameters: ClassVar[tuple[str, ...]] = ("real",)

    def __post_init__(self) -> None:
        if not 0 <= self.real < 1:
            raise ValueError(f"real must be a share in [0, 1), got {self.real!r}")

    @property
    def needs(self) -> Needs:
        return DEMONSTRATIONS if self.real else NOTHING

    @property
    def fits(self) -> bool:
        return self.base.fits

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        if anchors:
            raise ValueError("demonstrations can be mixed in only for an objective that reads no anchors")
        mixed = rows
        if self.real and len(rows):  # a closed form enumerates none
            mixed = mixture(rows, Demonstrations().write(world, state), self.real)
        return self.base.move(method, world, state, mixed, anchors)

    def describe(self) -> str:
        recorded = f", on {self.real:.0%} recorded demonstrations" if self.real else ""
        return f"{self.base.describe()}{recorded}"


def mixture(own: Rows, recorded: Rows, share: float) -> Rows:
    """Both kinds of labelled responses, the recorded ones with `share` of the total weight; the mean weight is 1."""
    weights = [(1 - share) * own.weight / own.weight.sum(), share * recorded.weight / recorded.weight.sum()]
    size = len(own) + len(recorded)
    parts = [
        replace(part, prob=None, weight=size * weight, writers=("mixed",))
        for part, weight in zip((own, recorded), weights, strict=True)
    ]
    return Rows.join(parts)
