"""Pairing: which of the written responses are compared, and how the oracle's answer becomes a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from equipoise.play.rows import Rows
from equipoise.play.world import State, World

Columns = npt.NDArray[np.intp]


class Pairing(Protocol):
    def check(self, samples: int) -> None:
        """Raise ValueError if `samples` responses per prompt cannot be paired this way."""
        ...

    def form(self, world: World, state: State, rows: Rows) -> Rows: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class AsRecorded:
    """The data's own pairs and labels; nothing is asked of an oracle."""

    def check(self, samples: int) -> None:
        pass

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        return rows

    def describe(self) -> str:
        return "as recorded"


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of i.i.d. responses: disjoint ones (0, 1), (2, 3), ..., or all K (K - 1)/2 of them.

    labels "soft" keeps the oracle's probability as the label; "bernoulli" draws one from it. Every choice has the
    same expected gradient, that of one i.i.d. pair, under which the squared losses are exact regressions on win
    rates; all pairs have the smallest variance and the largest cost. Pairs of equal responses are left out: they
    carry no gradient.
    """

    labels: Literal["soft", "bernoulli"] = "soft"
    every: bool = False

    def check(self, samples: int) -> None:
        if samples < 2 or (samples % 2 and not self.every):
            need = "at least two responses" if self.every else "an even number of responses"
            raise ValueError(
                f"{'all' if self.every else 'disjoint'} pairs need {need} per prompt, got {samples}"
            )

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        count = rows.responses.shape[1]
        self.check(count)
        disjoint = ((a, a + 1) for a in range(0, count, 2))
        parts = []
        for a, b in combinations(range(count), 2) if self.every else disjoint:
            first, second = np.full(len(rows), a), np.full(len(rows), b)
            prob = world.compare(rows, first, second)
            if self.labels == "bernoulli":
                prob = (world.uniforms(state, f"label-{a}-{b}", len(rows)) < prob).astype(np.float64)
            parts.append(_distinct(rows.pair(first, second, prob)))
        return Rows.join(parts)

    def describe(self) -> str:
        return f"{'all' if self.every else 'disjoint'} i.i.d. pairs, {self.labels} labels"


@dataclass(frozen=True)
class Tournament:
    """INPO's selection: a winners' and a losers' bracket over K = 2^m responses, then one deciding match.

    Matches on disjoint pairs; the winners play on for y_w, the losers (the loser moving on) for y_l; y_w then
    meets y_l once and the pair is kept only if y_w wins. K = 8 takes 4 + 3 + 3 + 1 = 11 comparisons. The side
    with P >= 1/2 wins, a tie goes to the first. A prompt whose K responses are all the same gives no pair.

    This selection is not i.i.d., so the loss is a heuristic on top of the theory (Zhang et al. 2024).
    """

    def check(self, samples: int) -> None:
        if samples < 4 or samples & (samples - 1):
            raise ValueError(f"a tournament needs 4, 8, 16, ... responses per prompt, got {samples}")

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        count = rows.responses.shape[1]
        self.check(count)

        def match(a: Columns, b: Columns) -> tuple[Columns, Columns]:
            wins = world.compare(rows, a, b) >= 0.5
            return np.where(wins, a, b), np.where(wins, b, a)

        entrants = [np.full(len(rows), column) for column in range(count)]
        matches = [match(a, b) for a, b in zip(entrants[::2], entrants[1::2], strict=True)]
        best = _bracket([won for won, _ in matches], lambda a, b: match(a, b)[0])
        worst = _bracket([lost for _, lost in matches], lambda a, b: match(a, b)[1])
        prob = world.compare(rows, best, worst)
        return _distinct(rows.pair(best, worst, np.ones(len(rows))).take(prob >= 0.5))

    def describe(self) -> str:
        return "tournament: best against worst"


def _distinct(pairs: Rows) -> Rows:
    """The pairs of two different responses."""
    return pairs.take(np.array([a != b for a, b in pairs.responses], dtype=bool))


def _bracket(field: list[Columns], play: Callable[[Columns, Columns], Columns]) -> Columns:
    """Single elimination; `play` says who moves on."""
    while len(field) > 1:
        field = [play(a, b) for a, b in zip(field[::2], field[1::2], strict=True)]
    return field[0]
