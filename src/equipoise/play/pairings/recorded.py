"""Recorded pairs with their labels; no oracle queries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import BothRoles, Degradations, needing
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.pairings.sampled import distinct
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


@dataclass(frozen=True)
class AsRecorded(Pairing):
    """Recorded pairs and labels, unchanged; no oracle queries."""

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        return rows

    def describe(self) -> str:
        return "as recorded"


@dataclass(frozen=True, kw_only=True)
class TargetBeatsOwn(Pairing):
    """The recorded response (column 0) beats the policy's own (column 1), hard label, no oracle (SPIN)."""

    def check(self, width: int) -> None:
        at_least(2, "a recorded response against own samples", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        return distinct(replace(rows, prob=np.ones(len(rows))))

    def describe(self) -> str:
        return "the data's response beats the policy's own"


@dataclass(frozen=True, kw_only=True)
class WithChosen(Pairing):
    """Recorded pairs, preferred response first, with the preferred response repeated as the third."""

    def check(self, width: int) -> None:
        at_least(2, "a recorded pair", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        turned = rows.preferred_first()
        first, second = np.zeros(len(rows), int), np.ones(len(rows), int)
        return replace(turned.columns([first, second, first]), prob=turned.prob)

    def describe(self) -> str:
        return "as recorded, with the preferred response repeated"


@dataclass(frozen=True, kw_only=True)
class InBothRoles(Pairing):
    """Any pairing, each response both as an answer and as a revision of either response (SRPO's six columns)."""

    base: Pairing = field(default_factory=AsRecorded)
    capabilities: ClassVar[tuple[type, ...]] = (BothRoles,)

    def check(self, width: int) -> None:
        self.base.check(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        pairs = _pairs("a comparison in both roles", self.base.form(world, state, rows))
        return needing(world, BothRoles).both_roles(pairs)

    def describe(self) -> str:
        return f"{self.base.describe()}, as answers and as revisions"


@dataclass(frozen=True, kw_only=True)
class Degraded(Pairing):
    """Any pairing, plus progressively degraded versions of both responses, key phrases removed (SPO)."""

    base: Pairing = field(default_factory=AsRecorded)
    degrees: int = 4
    parameters: ClassVar[tuple[str, ...]] = ("degrees",)
    capabilities: ClassVar[tuple[type, ...]] = (Degradations,)

    def check(self, width: int) -> None:
        self.base.check(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        pairs = _pairs("a degraded comparison", self.base.form(world, state, rows))
        return needing(world, Degradations).degraded(pairs, self.degrees)

    def describe(self) -> str:
        return f"{self.base.describe()}, and both responses degraded {self.degrees - 1} times"


@dataclass(frozen=True, kw_only=True)
class PreferredFirst(Pairing):
    """Recorded pairs with their labels, preferred response first."""

    def check(self, width: int) -> None:
        at_least(2, "a recorded pair", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        return rows.preferred_first()

    def describe(self) -> str:
        return "as recorded, preferred response first"


def _pairs(what: str, rows: Rows) -> Rows:
    """The rows, which must be pairs. Raises ValueError for comparisons of any other size."""
    if rows.responses.shape[1] != 2:
        raise ValueError(f"{what} is made of a pair, got a comparison of {rows.responses.shape[1]} responses")
    return rows
