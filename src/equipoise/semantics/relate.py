"""Order of two losses: by the formulas they stand for and, where that does not decide, by their values.

By formula: if W1 is in W2 and Z2 in Z1, then WMC(W1) <= WMC(W2) and WMC(Z2) <= WMC(Z1) for all probabilities,
so L1 >= L2: the first is the stronger. By value: L1 >= L2 is WMC(W2) WMC(Z1) - WMC(W1) WMC(Z2) >= 0. The
product of the weights of rows r and s is prod_i p_i^{k_i} (1 - p_i)^{2 - k_i} with k = r + s, a positive function, and
those of different k are linearly independent. So the difference is an integer for each k: all 0 means equal for every
probability, none negative means never negative, and a sign change is proved by two points where it shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from equipoise.semantics.count import log_ratio
from equipoise.semantics.formula import ALL, HOLDS, Rows, halves, members, within
from equipoise.semantics.structure import Structure, of_rows

Kind = Literal["equivalent", "stronger", "weaker", "incomparable", "undecided"]
Sign = Literal["+", "-", "0", "both", "undecided"]
Powers = Counter[tuple[int, ...]]  # k -> coefficient

ELEVATIONS = 4  # a positive polynomial has positive coefficients in a degree that is high enough
POINTS = 4096


@dataclass(frozen=True)
class Relation:
    """How the first structure's loss stands to the second's, at every choice of independent probabilities.

    kind     "stronger": the first loss is never smaller; "incomparable": each is larger somewhere.
    by       "meaning" (the rows decide), "value" (the counts decide) or "witnesses" (two points).
    """

    kind: Kind
    by: Literal["meaning", "value", "witnesses"]


def entails(first: Structure, second: Structure) -> bool:
    """Whether the first is at least as strong by its rows alone: W1 in W2 and Z2 in Z1."""
    return within(first.win, second.win) and within(second.lose, first.lose)


@cache
def relation(first: Structure, second: Structure) -> Relation:
    """How the first stands to the second. See the module for what decides."""
    forward, backward = entails(first, second), entails(second, first)
    if forward or backward:
        return Relation(
            "equivalent" if forward and backward else "stronger" if forward else "weaker", "meaning"
        )
    atoms = tuple(sorted({*first.atoms, *second.atoms}))
    gap = products(second.win, first.lose, atoms)
    gap.subtract(products(first.win, second.lose, atoms))
    found = certified(gap)
    if found in ("+", "-", "0"):
        kinds: Mapping[Sign, Kind] = {"+": "stronger", "-": "weaker", "0": "equivalent"}
        return Relation(kinds[found], "value")
    difference = sampled(second) - sampled(first)
    larger, smaller = bool((difference > 1e-9).any()), bool((difference < -1e-9).any())
    return Relation("incomparable" if larger and smaller else "undecided", "witnesses")


def products(rows: Rows, others: Rows, atoms: tuple[int, ...]) -> Powers:
    """WMC(rows) WMC(others): for every k how many pairs of rows have that sum."""
    kept = ALL
    for i in range(len(HOLDS)):
        if i not in atoms:
            kept &= ~HOLDS[i]
    pairs = product(members(rows & kept), members(others & kept))
    return Counter(tuple((r >> i & 1) + (s >> i & 1) for i in atoms) for r, s in pairs)


def certified(powers: Powers) -> Sign:
    """The sign of the polynomial on the open cube: proved by coefficients of one sign, else "undecided"."""
    for _ in range(ELEVATIONS):
        values = {value for value in powers.values() if value}
        if not values:
            return "0"
        if min(values) > 0 or max(values) < 0:
            return "+" if min(values) > 0 else "-"
        powers = elevated(powers)
    return "undecided"


def elevated(powers: Powers) -> Powers:
    """The same polynomial one degree higher in every probability: times prod_i (p_i + 1 - p_i) = 1."""
    higher: Powers = Counter()
    for k, value in powers.items():
        for step in product((0, 1), repeat=len(k)):
            higher[tuple(a + b for a, b in zip(k, step, strict=True))] += value
    return higher


@cache
def points() -> Tensor:
    """Log-probabilities [4, N] of independent atoms, spread from near 0 to near 1; always the same."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(len(HOLDS), POINTS, generator=generator, dtype=torch.float64)
    return torch.nn.functional.logsigmoid(logits)


@cache
def sampled(structure: Structure) -> Tensor:
    """log R at `points`."""
    return log_ratio(structure, dict(enumerate(points())))


def direction(structure: Structure, atom: int) -> Sign:
    """The sign of d log R / d p of an atom: whether lowering the loss always raises ("+") or lowers ("-") it.

    R = (a + b p)/(c + d p) rises in p exactly if WMC(W | true) WMC(Z | false) - WMC(W | false) WMC(Z | true) > 0, which
    holds no p any more. "both" is proved by two points.
    """
    atoms = tuple(i for i in structure.atoms if i != atom)
    (win_false, win_true), (lose_false, lose_true) = (
        halves(rows, atom) for rows in (structure.win, structure.lose)
    )
    slope = products(win_true, lose_false, atoms)
    slope.subtract(products(win_false, lose_true, atoms))
    found = certified(slope)
    if found != "undecided":
        return found
    values = _evaluated(slope, atoms)
    return "both" if bool((values > 1e-12).any()) and bool((values < -1e-12).any()) else "undecided"


def _evaluated(powers: Powers, atoms: tuple[int, ...]) -> Tensor:
    p = points().exp()[list(atoms)]
    terms = [
        value * torch.stack([p[i] ** k * (1 - p[i]) ** (2 - k) for i, k in enumerate(powered)]).prod(dim=0)
        for powered, value in powers.items()
    ]
    return torch.stack(terms).sum(dim=0)


def hasse(structures: Mapping[str, Structure]) -> list[tuple[str, str]]:
    """The edges (stronger, weaker) of the order by meaning that do not follow from others: its Hasse diagram."""
    above = {
        (a, b)
        for a, first in structures.items()
        for b, second in structures.items()
        if entails(first, second) and not entails(second, first)
    }
    return sorted(
        (a, b) for a, b in above if not any((a, c) in above and (c, b) in above for c in structures)
    )


@dataclass(frozen=True)
class Census:
    """How many of the structures over M(w) and M(l) there are of each kind.

    losses      some row wins and some loses; the others have no loss, or 0.
    speaking    of these, the ratio is not the same number whatever the probabilities.
    monotone    of these, R never falls in p_w and never rises in p_l: preference losses.
    both        of these, R depends on both responses.
    """

    all: int
    losses: int
    speaking: int
    monotone: int
    both: int


@cache
def census() -> Census:
    """Every marking of the four rows, counted. The total is the paper's; the other numbers are DERIVED here."""
    rows = [sum(1 << row for row in members(ALL) if row & 3 == corner) for corner in range(4)]
    found: list[tuple[Sign, Sign]] = []
    markings = list(product((0, 1, 2, 3), repeat=4))
    for marking in markings:
        win, lose = (
            sum(part for part, mark in zip(rows, marking, strict=True) if mark & side) for side in (1, 2)
        )
        if win and lose:
            structure = of_rows(win, lose)
            found.append((direction(structure, 0), direction(structure, 1)))
    speaking = [signs for signs in found if signs != ("0", "0")]
    monotone = [(w, l) for w, l in speaking if w in "+0" and l in "-0"]
    return Census(
        len(markings), len(found), len(speaking), len(monotone), sum("0" not in signs for signs in monotone)
    )
