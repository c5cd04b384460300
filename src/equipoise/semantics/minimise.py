"""Formula minimisation: the shortest readable formula for a set of rows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, reduce
from itertools import combinations, product

from equipoise.semantics.formula import (
    ALL,
    ATOMS,
    FALSE,
    HOLDS,
    NONE,
    TRUE,
    Atom,
    Binary,
    Formula,
    Not,
    Rows,
    Truth,
    depends_on,
    within,
)


@cache
def shortest(rows: Rows) -> Formula:
    """The formula of least cost that holds in exactly these rows.

    Looked at: a disjunction of conjunctions (the cheapest cover by prime implicants, Quine and McCluskey, by brute
    force), the same as an implication where it has terms that are single negations, a conjunction of disjunctions, the
    negation of a disjunction of conjunctions, and a comparison of two atoms (xor, <->). The cost is the number of atoms
    and negations; of equals the first wins.
    """
    if rows in (NONE, ALL):
        return TRUE if rows else FALSE
    terms, others = cover(rows), cover(ALL ^ rows)
    forms = [_comparison(rows), _implication(terms), _sum(terms), _product(others), Not(_sum(others))]
    return min((form for form in forms if form is not None), key=cost)


def cost(formula: Formula) -> int:
    """How many atoms and negations are written."""
    if isinstance(formula, Binary):
        return cost(formula.left) + cost(formula.right)
    if isinstance(formula, Not):
        return 1 + cost(formula.of)
    return 0 if isinstance(formula, Truth) else 1


Term = tuple[Formula, ...]  # literals that all hold


@cache
def implicants() -> dict[Term, Rows]:
    """Every conjunction of literals, each atom plain, negated or absent, with the rows in which it holds."""
    found: dict[Term, Rows] = {}
    for signs in product((None, True, False), repeat=len(ATOMS)):
        literals = tuple(
            Atom(i) if sign else Not(Atom(i)) for i, sign in enumerate(signs) if sign is not None
        )
        found[literals] = reduce(lambda rows, literal: rows & literal.rows, literals, ALL)
    return found


def cover(rows: Rows) -> tuple[Term, ...]:
    """The fewest prime implicants that make up the set, and of those the cheapest."""
    inside = {term: held for term, held in implicants().items() if within(held, rows)}
    primes = {
        term: held
        for term, held in inside.items()
        if not any(held != other and within(held, other) for other in inside.values())
    }
    for size in range(1, len(primes) + 1):
        covers = [
            terms
            for terms in combinations(primes, size)
            if reduce(lambda union, term: union | primes[term], terms, NONE) == rows
        ]
        if covers:
            best = min(covers, key=lambda terms: sum(cost(literal) for term in terms for literal in term))
            return tuple(sorted(best, key=lambda term: [held_by(literal) for literal in term]))
    return ()


def held_by(literal: Formula) -> int:
    """The atom of a literal."""
    return (
        held_by(literal.of)
        if isinstance(literal, Not)
        else literal.index
        if isinstance(literal, Atom)
        else -1
    )


def join(name: str, parts: Iterable[Formula]) -> Formula:
    """The parts joined by one connective, from the left."""
    return reduce(lambda left, right: Binary(name, left, right), parts)


def _sum(terms: tuple[Term, ...]) -> Formula:
    return join("or", (join("and", term) for term in terms))


def _product(complement: tuple[Term, ...]) -> Formula:
    """The negation of a sum of terms, with the negations moved to the literals."""
    return join("and", (join("or", (_negated(literal) for literal in term)) for term in complement))


def _negated(literal: Formula) -> Formula:
    return literal.of if isinstance(literal, Not) else Not(literal)


def _implication(terms: tuple[Term, ...]) -> Formula | None:
    """not a or not b or REST is (a and b) -> REST."""
    premises = [term[0].of for term in terms if len(term) == 1 and isinstance(term[0], Not)]
    rest = tuple(term for term in terms if not (len(term) == 1 and isinstance(term[0], Not)))
    return Binary("->", join("and", premises), _sum(rest)) if premises and rest else None


def _comparison(rows: Rows) -> Formula | None:
    atoms = depends_on(rows)
    if len(atoms) != 2:
        return None
    a, b = atoms
    differ = HOLDS[a] ^ HOLDS[b]
    name = {differ: "xor", ALL ^ differ: "<->"}.get(rows)
    return Binary(name, Atom(a), Atom(b)) if name else None
