"""Formulas: what they mean, how they are written, read and shortened."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.semantics.formula import (
    ALL,
    ATOMS,
    FALSE,
    HOLDS,
    OPERATORS,
    TRUE,
    Atom,
    Binary,
    Not,
    depends_on,
    halves,
    members,
)
from equipoise.semantics.minimise import cost, shortest
from equipoise.semantics.parse import DEEPEST, LONGEST, SPELLINGS, FormulaError, parse

few = settings(max_examples=100, deadline=None)  # a loaded machine is no reason to fail
W, L, RW, RL = map(Atom, range(4))
PYTHON = {
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "->": lambda a, b: b if a else True,
    "<->": lambda a, b: a == b,
}

formulas = st.recursive(
    st.sampled_from([TRUE, FALSE, W, L, RW, RL]),
    lambda inner: st.builds(Not, inner) | st.builds(Binary, st.sampled_from(sorted(OPERATORS)), inner, inner),
    max_leaves=12,
)
row_sets = st.integers(0, ALL)


def value(formula, row):
    """A formula in one row, by Python's own connectives."""
    if isinstance(formula, Atom):
        return bool(row >> formula.index & 1)
    if isinstance(formula, Not):
        return not value(formula.of, row)
    if isinstance(formula, Binary):
        return PYTHON[formula.name](value(formula.left, row), value(formula.right, row))
    return formula.value


@given(formulas)
@few
def test_the_rows_of_a_formula_are_those_in_which_it_holds(formula):
    assert list(members(formula.rows)) == [row for row in range(16) if value(formula, row)]


@given(formulas)
@few
def test_what_is_written_is_read_back_as_the_same_formula(formula):
    assert parse(str(formula)) == formula


@given(formulas, st.randoms(use_true_random=False))
@few
def test_every_spelling_is_read_alike(formula, random):
    written = f" {formula} "
    for kind in ("<->", "->", "xor", "or", "and", "not", "true", "false"):
        spelling = random.choice(SPELLINGS[kind])
        written = written.replace(f" {kind} ", f" {spelling} ").replace(f"({kind} ", f"({spelling} ")
    assert parse(written) == formula
    assert parse(written.upper().replace(" ", "  ")) == formula


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("M(l) -> M(w) -> Ref(w)", Binary("->", L, Binary("->", W, RW))),
        ("M(l) xor M(w) xor Ref(w)", Binary("xor", Binary("xor", L, W), RW)),
        ("not M(l) and M(w) or Ref(w)", Binary("or", Binary("and", Not(L), W), RW)),
        ("M(w) or Ref(w) xor M(l)", Binary("xor", Binary("or", W, RW), L)),
        ("M(w) <-> M(l) -> Ref(l)", Binary("<->", W, Binary("->", L, RL))),
        ("¬(M(w)∧M(l))", Not(Binary("and", W, L))),
        ("~~ref ( L )", Not(Not(RL))),
        ("((true))", TRUE),
    ],
)
def test_how_connectives_bind(text, formula):
    assert parse(text) == formula


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ("", 0, "expected a formula"),
        ("M(w) and", 8, "expected a formula"),
        ("M(l) -> (M(w)", 13, r"expected '\)' for the '\(' at character 9"),
        ("M(w) M(l)", 5, "expected a connective"),
        ("M(w))", 4, "expected a connective"),
        ("M(x)", 0, r"atoms are M\(w\), M\(l\), Ref\(w\), Ref\(l\)"),
        ("M(w) andM(l)", 5, "unknown"),
        ("M(w) + M(l)", 5, "unknown"),
        ("-> M(w)", 0, "expected a formula"),
        ("__import__('os')", 0, "unknown"),
    ],
)
def test_an_error_points_at_its_place(text, at, reason):
    with pytest.raises(FormulaError, match=reason) as error:
        parse(text)
    shown, caret = str(error.value).splitlines()[1:]
    assert shown == f"  {text}" and caret.index("^") == at + 2


def test_a_formula_of_any_length_or_depth_is_refused_with_a_message():
    with pytest.raises(FormulaError, match=f"at most {LONGEST}"):
        parse(" " * (LONGEST + 1))
    for text in ("(" * 400, "!" * 900, "M(w) -> " * 100 + "M(w)"):
        with pytest.raises(FormulaError, match=f"nested more than {DEEPEST} deep"):
            parse(text)
    assert parse("(" * DEEPEST + "M(w)" + ")" * DEEPEST) == W


@given(st.text(max_size=60))
@few
def test_any_text_is_read_or_refused(text):
    try:
        assert parse(str(parse(text))) == parse(text)
    except FormulaError as error:
        assert str(error).splitlines()[2].endswith("^")


@given(row_sets)
@few
def test_the_shortest_formula_means_the_same(rows):
    assert shortest(rows).rows == rows
    assert parse(str(shortest(rows))).rows == rows


def test_over_two_atoms_nothing_shorter_has_the_same_rows():
    # every formula of up to four atoms and negations, by cost
    cheapest = {ALL: 0, 0: 0}
    level = {0: {ALL, 0}, 1: {HOLDS[0], HOLDS[1]}}
    for size in range(1, 5):
        found = level.get(size, set()) | {ALL ^ rows for rows in level[size - 1]}
        for left in range(1, size):
            for a, b in product(level[left], level[size - left]):
                found |= {operator.compute(a, b) for operator in OPERATORS.values()}
        level[size] = found
        for rows in found:
            cheapest.setdefault(rows, size)
    assert len(cheapest) == 16
    for rows, best in cheapest.items():
        assert cost(shortest(rows)) == best, shortest(rows)


@given(row_sets, st.integers(0, 3))
@few
def test_the_halves_of_a_set_join_to_it(rows, atom):
    false, true = halves(rows, atom)
    assert false & ~HOLDS[atom] | true & HOLDS[atom] == rows
    assert atom not in depends_on(false) and atom not in depends_on(true)
    assert (atom in depends_on(rows)) == (false != true)


def test_formulas_in_words():
    assert parse("M(l) -> M(w)").words == (
        "if the dispreferred response is valid then the preferred response is valid"
    )
    assert parse("M(w) xor not M(l)").words == (
        "either the preferred response is valid or the dispreferred response is not valid, not both"
    )
    nested = parse("M(w) or M(l) and Ref(w)").words
    assert nested.startswith("the preferred response is valid or (the dispreferred response is valid and")
    assert {str(Atom(i)) for i in range(4)} == set(ATOMS)
