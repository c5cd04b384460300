"""Recorded pairs, one domain of the data after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.play.needs import PAIRS, Needs
from equipoise.play.players.protocol import Players, nothing_is_sampled
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class ByDomain(Players):
    """Recorded pairs, one domain after another, cyclically: `stay` rounds in each.

    parts   as in `Recorded`, within the domain.

    Domains are the data files, in order; in the language game the hours of the day; in an exact game the prompts.
    """

    stay: int = 20
    parts: int = 20
    parameters: ClassVar[tuple[str, ...]] = ("stay", "parts")
    needs: ClassVar[Needs] = PAIRS
    width: ClassVar[int] = 2

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state)
        domains = rows.domains
        own = np.flatnonzero(domains == (state.round - 1) // self.stay % (domains.max(initial=0) + 1))
        return rows.take(own).part(state.round - 1, self.parts)

    @property
    def sampled(self) -> bool:
        return False

    def writing(self, samples: int) -> ByDomain:
        raise nothing_is_sampled()

    def describe(self) -> str:
        return f"recorded pairs, {self.stay} rounds in each domain"
