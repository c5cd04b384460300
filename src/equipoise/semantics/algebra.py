"""Multilinear polynomials of counts: from a ratio of polynomials to a structure, and from it to its closed form.

A polynomial that is linear in each probability is fixed by its values at the corners, where every probability is 0 or
1: f(p) = sum over corners c of f(c) prod_i p_i^{c_i} (1 - p_i)^{1 - c_i}. Corners are rows of the truth table, so f is
the count of a set of rows exactly if it is 0 or 1 at every corner, and that set is the formula it stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import gcd

from equipoise.semantics.formula import ALL, ATOMS, HOLDS, NONE, SIZE, Row, Rows, depends_on, halves
from equipoise.semantics.structure import Structure, of_rows

SYMBOLS = ("p_w", "p_l", "q_w", "q_l")


@dataclass(frozen=True)
class Multilinear:
    """A polynomial with integer coefficients, linear in each probability, by its values at the sixteen corners."""

    corners: tuple[int, ...]

    def __add__(self, other: Multilinear | int) -> Multilinear:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Multilinear | int) -> Multilinear:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: int) -> Multilinear:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Multilinear | int) -> Multilinear:
        shared = set(self.atoms) & set(other.atoms) if isinstance(other, Multilinear) else ()
        if shared:
            names = ", ".join(SYMBOLS[i] for i in shared)
            raise ValueError(f"the product has {names} squared: it is not linear in each probability")
        return self._with(other, lambda a, b: a * b)

    __radd__, __rmul__ = __add__, __mul__

    def _with(self, other: Multilinear | int, compute: Callable[[int, int], int]) -> Multilinear:
        values = other.corners if isinstance(other, Multilinear) else (other,) * SIZE
        return Multilinear(tuple(compute(a, b) for a, b in zip(self.corners, values, strict=True)))

    @property
    def atoms(self) -> tuple[int, ...]:
        """The probabilities that occur."""
        return tuple(
            i
            for i in range(len(ATOMS))
            if any(self.corners[row] != self.corners[row ^ 1 << i] for row in range(SIZE))
        )


P_W, P_L, Q_W, Q_L = (Multilinear(tuple(rows >> row & 1 for row in range(SIZE))) for rows in HOLDS)


def decompile(numerator: Multilinear, denominator: Multilinear) -> Structure:
    """The structure whose ratio WMC(W)/WMC(Z) is numerator/denominator, by enumerating the corners.

    A common whole factor is divided out. Raises ValueError naming the corner that is no plain yes or no: then the ratio
    is not that of one structure in these atoms.
    """
    factor = gcd(*numerator.corners, *denominator.corners)
    return of_rows(_rows(numerator, factor, "numerator"), _rows(denominator, factor, "denominator"))


def _rows(polynomial: Multilinear, factor: int, part: str) -> Rows:
    rows = NONE
    for row, value in enumerate(polynomial.corners):
        if value not in (0, factor):
            raise ValueError(
                f"the {part} is {value} where {corner(row)}: a set of rows counts each row once or not at all"
            )
        rows |= (value != 0) << row
    return rows


def corner(row: Row) -> str:
    """A corner in symbols."""
    return ", ".join(f"{symbol} = {row >> i & 1}" for i, symbol in enumerate(SYMBOLS))


def polynomials(structure: Structure) -> tuple[Multilinear, Multilinear]:
    """WMC(W) and WMC(Z); `decompile` is the way back."""
    win, lose = (
        Multilinear(tuple(rows >> row & 1 for row in range(SIZE))) for rows in (structure.win, structure.lose)
    )
    return win, lose


# the closed form, as people write it --------------------------------------------------------------


@cache
def factors(rows: Rows) -> tuple[Rows, ...]:
    """Sets in different atoms whose counts multiply to that of the set: atoms, negated atoms, and at most one more."""
    plain: list[Rows] = []
    negated: list[Rows] = []
    for i in depends_on(rows):
        false, true = halves(rows, i)
        if NONE in (false, true):
            rows = true or false
            (plain if true else negated).append(HOLDS[i] if true else ALL ^ HOLDS[i])
    return (*plain, *negated, *([] if rows == ALL else [rows]))


@cache
def written(rows: Rows) -> str:
    """WMC(rows), the shortest of: literals times the rest, one minus the complement, one atom true or false."""
    if rows in (NONE, ALL):
        return "1" if rows else "0"
    if rows in HOLDS:
        return SYMBOLS[HOLDS.index(rows)]
    parts = factors(rows)
    if len(parts) > 1:
        return " ".join(bracketed(part) for part in parts)
    if ALL ^ rows in HOLDS:
        return f"1 - {written(ALL ^ rows)}"
    forms = [
        " + ".join(
            times(tuple(part for part in (literal, rest) if part != ALL))
            for literal, rest in ((HOLDS[i], halves(rows, i)[1]), (ALL ^ HOLDS[i], halves(rows, i)[0]))
        )
        for i in depends_on(rows)
    ]
    if len(factors(ALL ^ rows)) > 1:
        forms.append(f"1 - {written(ALL ^ rows)}")
    return min(forms, key=len)


def bracketed(rows: Rows) -> str:
    """The count as a factor of a product."""
    one = len(factors(rows)) == 1 and rows not in HOLDS
    return f"({written(rows)})" if one else written(rows)


def times(parts: tuple[Rows, ...]) -> str:
    """The product of counts."""
    return " ".join(bracketed(part) for part in parts) or "1"


def ratio(structure: Structure) -> tuple[tuple[Rows, ...], tuple[Rows, ...]]:
    """The factors of WMC(W) and of WMC(Z), those of both cancelled."""
    win, lose = Counter(factors(structure.win)), Counter(factors(structure.lose))
    return tuple((win - lose).elements()), tuple((lose - win).elements())


def closed_form(structure: Structure) -> str:
    """R = WMC(W)/WMC(Z) in the probabilities p_w, p_l of the model and q_w, q_l of the reference."""
    above, below = (times(parts) for parts in ratio(structure))
    if below == "1":
        return above
    return f"{above} / {below}" if len(ratio(structure)[1]) == 1 else f"{above} / ({below})"


def coefficient(structure: Structure, atom: int) -> str:
    """d log R / d log p of one atom in closed form, "0" if the ratio does not depend on it."""
    terms: Counter[tuple[str, str]] = Counter()  # (above, below) -> how often, with its sign
    for sign, parts in zip((1, -1), ratio(structure), strict=True):
        for part in parts:
            false, true = halves(part, atom)
            for side, gained in ((1, true & ~false), (-1, false & ~true)):
                if gained:
                    terms[_share(part, atom, gained)] += sign * side
    return _summed(terms)


def _share(part: Rows, atom: int, gained: Rows) -> tuple[str, str]:
    """p_i WMC(gained) / WMC(part), cancelled where the part is the atom itself."""
    if part == HOLDS[atom]:
        return "1", "1"
    return times(factors(HOLDS[atom] & gained)), written(part)


def _summed(terms: Counter[tuple[str, str]]) -> str:
    """The sum in words of algebra; 1 + x/(1 - x) becomes 1/(1 - x)."""
    for (above, below), times in list(terms.items()):
        if times * terms["1", "1"] > 0 and below == f"1 - {above}":
            terms[above, below] -= times
            terms["1", "1"] -= times
            terms["1", below] += times
    text = ""
    for (above, below), times in sorted(terms.items(), key=lambda item: (item[1] < 0, item[0][1] != "1")):
        if times:
            size = f"{abs(times)} " if abs(times) > 1 else ""
            quotient = above if below == "1" else f"{above}/{below if ' ' not in below else f'({below})'}"
            text += (" - " if times < 0 else " + ") + size + quotient
    if not text:
        return "0"
    return text[3:] if text.startswith(" + ") else f"-{text[3:]}"
