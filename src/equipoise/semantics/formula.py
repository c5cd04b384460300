"""Propositional formulas over four atoms, as sets of rows of one truth table of sixteen.

    M(w), M(l)        the model finds the preferred, the dispreferred response valid
    Ref(w), Ref(l)    the reference finds it valid

A row is a number 0..15: bit i says whether atom i holds. A set of rows is a number of sixteen bits, so that `and` is
`&`, entailment is inclusion and every question about formulas is answered by enumeration. A formula that names fewer
atoms holds in a row whatever the others are: formulas over two and over four atoms are compared in one universe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

ATOMS = ("M(w)", "M(l)", "Ref(w)", "Ref(l)")
Rows: TypeAlias = int
Row: TypeAlias = int

SIZE = 1 << len(ATOMS)
ALL: Rows = (1 << SIZE) - 1
NONE: Rows = 0
HOLDS: tuple[Rows, ...] = tuple(
    sum(1 << row for row in range(SIZE) if row >> i & 1) for i in range(len(ATOMS))
)

WORDS = (
    "the preferred response is{} valid",
    "the dispreferred response is{} valid",
    "the reference finds the preferred response{} valid",
    "the reference finds the dispreferred response{} valid",
)


def members(rows: Rows) -> Iterator[Row]:
    """The rows of a set, ascending."""
    return (row for row in range(SIZE) if rows >> row & 1)


def within(rows: Rows, others: Rows) -> bool:
    """Whether every row of the first set is in the second: entailment."""
    return rows & ~others == 0


def halves(rows: Rows, atom: int) -> tuple[Rows, Rows]:
    """The set where the atom is false and where it is true, each made independent of the atom."""
    step = 1 << atom
    true, false = rows & HOLDS[atom], rows & ~HOLDS[atom]
    return false | false << step, true | true >> step


def depends_on(rows: Rows) -> tuple[int, ...]:
    """The atoms that the set depends on."""
    return tuple(i for i in range(len(ATOMS)) if halves(rows, i)[0] != halves(rows, i)[1])


@dataclass(frozen=True)
class Operator:
    """How a connective binds (more is tighter, to the right or to the left), what it computes, how it is said."""

    binds: int
    to_the_right: bool
    compute: Callable[[Rows, Rows], Rows]
    words: str


OPERATORS: dict[str, Operator] = {
    "<->": Operator(1, False, lambda a, b: ALL ^ a ^ b, "{} exactly if {}"),
    "->": Operator(2, True, lambda a, b: ALL & ~a | b, "if {} then {}"),
    "xor": Operator(3, False, lambda a, b: a ^ b, "either {} or {}, not both"),
    "or": Operator(4, False, lambda a, b: a | b, "{} or {}"),
    "and": Operator(5, False, lambda a, b: a & b, "{} and {}"),
}
NOT_BINDS = 6


class Formula(ABC):
    """What every formula can do. `str` gives what `parse` reads back; formulas are equal if written in the same way."""

    @property
    def binds(self) -> int:
        """How tightly its outermost connective binds; see `Operator`."""
        return NOT_BINDS + 1

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """The rows in which the formula holds."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The formula as an English sentence."""

    @abstractmethod
    def swapped(self) -> Formula:
        """The same with the two responses exchanged."""


@dataclass(frozen=True)
class Truth(Formula):
    """true or false."""

    value: bool

    @property
    def rows(self) -> Rows:
        return ALL if self.value else NONE

    @property
    def words(self) -> str:
        return "always" if self.value else "never"

    def swapped(self) -> Formula:
        return self

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True)
class Atom(Formula):
    """One of `ATOMS`, by its position."""

    index: int

    @property
    def rows(self) -> Rows:
        return HOLDS[self.index]

    @property
    def words(self) -> str:
        return WORDS[self.index].format("")

    def swapped(self) -> Formula:
        return Atom(self.index ^ 1)

    def __str__(self) -> str:
        return ATOMS[self.index]


@dataclass(frozen=True)
class Not(Formula):
    """The negation."""

    of: Formula

    @property
    def binds(self) -> int:
        return NOT_BINDS

    @property
    def rows(self) -> Rows:
        return ALL ^ self.of.rows

    @property
    def words(self) -> str:
        if isinstance(self.of, Atom):
            return WORDS[self.of.index].format(" not")
        return f"it is not so that ({self.of.words})"

    def swapped(self) -> Formula:
        return Not(self.of.swapped())

    def __str__(self) -> str:
        return f"not {_wrapped(self.of, self.of.binds < NOT_BINDS, str)}"


@dataclass(frozen=True)
class Binary(Formula):
    """Two formulas joined by one of `OPERATORS`."""

    name: str
    left: Formula
    right: Formula

    @property
    def binds(self) -> int:
        return OPERATORS[self.name].binds

    @property
    def rows(self) -> Rows:
        return OPERATORS[self.name].compute(self.left.rows, self.right.rows)

    @property
    def words(self) -> str:
        """Connectives inside others stand in parentheses: a sentence has no order of precedence."""
        sides = [
            _wrapped(side, isinstance(side, Binary) and self.name not in ("->", side.name), lambda f: f.words)
            for side in (self.left, self.right)
        ]
        return OPERATORS[self.name].words.format(*sides)

    def swapped(self) -> Formula:
        return Binary(self.name, self.left.swapped(), self.right.swapped())

    def __str__(self) -> str:
        right_first = OPERATORS[self.name].to_the_right
        left, right = self.left.binds - self.binds, self.right.binds - self.binds
        return " ".join(
            (
                _wrapped(self.left, left < 0 or (left == 0 and right_first), str),
                self.name,
                _wrapped(self.right, right < 0 or (right == 0 and not right_first), str),
            )
        )


def _wrapped(formula: Formula, wrap: bool, say: Callable[[Formula], str]) -> str:
    return f"({say(formula)})" if wrap else say(formula)


TRUE, FALSE = Truth(True), Truth(False)
