"""Preference structures: the rows of the truth table that win, lose, count both ways, or are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from equipoise.semantics.formula import ALL, FALSE, HOLDS, TRUE, Formula, Row, Rows, depends_on, members
from equipoise.semantics.minimise import shortest

Mark = Literal["win", "lose", "both", "ignored"]


@dataclass(frozen=True)
class Structure:
    """Preference structure of a loss: a formula, the rows in which it is judged, and those that count both ways.

        W = (P or P_A) and P_C,    Z = ((not P) or P_A) and P_C

    core     P, the formula that the loss wants to hold.
    given    P_C, where it is judged.
    also     P_A, the rows that count as won and as lost.

    The loss is -log( WMC(W) / (WMC(W) + WMC(Z)) ), see `count.loss`. Raises ValueError if no row wins (the loss is
    infinite) or none loses (it is 0).

    Source: Richardson, Srikumar and Sabharwal 2024 (2412.17696), secondary; the structures' algebra is DERIVED.
    """

    core: Formula
    given: Formula = TRUE
    also: Formula = FALSE

    def __post_init__(self) -> None:
        if not self.win:
            raise ValueError(f"no row wins: {self.core} never holds where it is judged, the loss is infinite")
        if not self.lose:
            raise ValueError(f"no row loses: {self.core} always holds where it is judged, the loss is 0")

    @property
    def win(self) -> Rows:
        """W."""
        return (self.core.rows | self.also.rows) & self.given.rows

    @property
    def lose(self) -> Rows:
        """Z."""
        return (ALL ^ self.core.rows | self.also.rows) & self.given.rows

    @property
    def atoms(self) -> tuple[int, ...]:
        """The atoms on which the marks depend, by position; the model's two where they depend on none."""
        return tuple(sorted({*depends_on(self.win), *depends_on(self.lose)})) or (0, 1)

    def mark(self, row: Row) -> Mark:
        """What a row of the truth table counts as."""
        wins, loses = self.win >> row & 1, self.lose >> row & 1
        if wins:
            return "both" if loses else "win"
        return "lose" if loses else "ignored"

    def marks(self) -> dict[Row, Mark]:
        """The marks of the rows over the atoms that matter; every other atom is false."""
        others = sum(1 << i for i in range(len(HOLDS)) if i not in self.atoms)
        return {row: self.mark(row) for row in members(ALL) if not row & others}

    def swapped(self) -> Structure:
        """The same with the two responses exchanged."""
        return Structure(self.core.swapped(), self.given.swapped(), self.also.swapped())

    def same_rows(self, other: Structure) -> bool:
        """Whether both mark every row in the same way."""
        return (self.win, self.lose) == (other.win, other.lose)

    @property
    def symmetric(self) -> bool:
        """Whether exchanging the responses turns every win into a loss and back: then it maps R to 1/R."""
        other = self.swapped()
        return (other.win, other.lose) == (self.lose, self.win)


def of_rows(win: Rows, lose: Rows) -> Structure:
    """The structure with these winning and losing rows, in its shortest formulas.

    P is Z -> W, "what loses wins": it fails in the rows that only lose and holds elsewhere. P_C = W or Z, P_A = W and
    Z. With these choices the formulas of the paper come back from their ratios, but for a P that is freer where it is
    not judged.
    """
    return Structure(shortest(ALL ^ (lose & ~win)), shortest(win | lose), shortest(win & lose))


def with_reference(structure: Structure) -> Structure:
    """The structure whose ratio is that of the given one times q_l/q_w: W and Ref(l) against Z and Ref(w).

    DPO is CPO with a reference. Meant for structures over the model's atoms.
    """
    return of_rows(structure.win & HOLDS[3], structure.lose & HOLDS[2])


def in_words(structure: Structure) -> str:
    """The three formulas as one sentence."""
    said = structure.core.words
    if structure.given != TRUE:
        said += f"; judged only where {structure.given.words}"
    if structure.also != FALSE:
        said += f"; counted both ways where {structure.also.words}"
    return said
