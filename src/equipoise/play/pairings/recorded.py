"""Recorded pairs and their labels; no oracle queries."""

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
    """The data's own pairs and labels; no oracle queries."""

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        return rows

    def describe(self) -> str:
        return "as recorded"


@dataclass(frozen=True, kw_only=True)
class TargetBeatsOwn(Pairing):
    """Column 0 (the data's response) beats column 1 (the policy's own), for certain: no oracle queries (SPIN)."""

    def check(self, width: int) -> None:
        at_least(2, "a target and an own response", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        return distinct(replace(rows, prob=np.ones(len(rows))))

    def describe(self) -> str:
        return "the data's response beats the policy's own"


@dataclass(frozen=True, kw_only=True)
class WithChosen(Pairing):
    """Recorded pairs, preferred response first, with that response once more as the third."""

    def check(self, width: int) -> None:
        at_least(2, "a recorded pair", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        turned = rows.preferred_first()
        first, second = np.zeros(len(rows), int), np.ones(len(rows), int)
        return replace(turned.columns([first, second, first]), prob=turned.prob)

    def describe(self) -> str:
        return "as recorded, with the preferred response once more"


@dataclass(frozen=True, kw_only=True)
class InBothRoles(Pairing):
    """The pairs of any pairing, each response after the prompt and as an improvement of either (SRPO's six columns)."""

    base: Pairing = field(default_factory=AsRecorded)
    capabilities: ClassVar[tuple[type, ...]] = (BothRoles,)

    def check(self, width: int) -> None:
        self.base.check(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        pairs = _pairs("a comparison in both roles", self.base.form(world, state, rows))
        return needing(world, BothRoles).both_roles(pairs)

    def describe(self) -> str:
        return f"{self.base.describe()}, in both roles"


@dataclass(frozen=True, kw_only=True)
class Degraded(Pairing):
    """The pairs of any pairing, and both responses with more and more of their key phrases left out (SPO)."""

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
    """Recorded pairs as they are labelled, turned so that the preferred response stands first."""

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
