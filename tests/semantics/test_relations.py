"""Which losses are stronger: by rows, by counts, and at random points."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.semantics.count import coefficients, log_ratio, loss
from equipoise.semantics.formula import ALL
from equipoise.semantics.losses import STRUCTURES
from equipoise.semantics.parse import parse
from equipoise.semantics.relate import (
    Relation,
    census,
    certified,
    direction,
    elevated,
    entails,
    hasse,
    products,
    relation,
)
from equipoise.semantics.structure import Structure, of_rows

few = settings(max_examples=30, deadline=None)  # a loaded machine is no reason to fail
NAMED = {name: entry.structure for name, entry in STRUCTURES.items()}
probabilities = st.lists(st.floats(1e-4, 1 - 1e-4), min_size=4, max_size=4)


def at(p):
    return {i: torch.tensor([x], dtype=torch.float64).log() for i, x in enumerate(p)}


def random_points(count=500, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return dict(
        enumerate((3 * torch.randn(4, count, generator=generator, dtype=torch.float64)).sigmoid().log())
    )


@given(probabilities)
@few
def test_unlikelihood_is_never_below_orpo_and_cpo_never_below_ccpo(p):
    value = {name: loss(NAMED[name], at(p)).item() for name in ("unlikelihood", "orpo", "ccpo", "cpo")}
    slack = 1e-12 * max(value.values())
    assert value["unlikelihood"] >= value["orpo"] - slack
    assert value["ccpo"] <= value["cpo"] + slack


@given(st.integers(1, ALL), st.integers(1, ALL), st.integers(0, ALL), st.integers(0, ALL), probabilities)
@few
def test_fewer_wins_and_more_losses_never_lower_the_loss(win, lose, fewer, more, p):
    weak = of_rows(win, lose)
    strong = of_rows(win & fewer or win, lose | more)
    assert entails(strong, weak)
    assert relation(strong, weak).kind in ("stronger", "equivalent")
    assert loss(strong, at(p)).item() >= loss(weak, at(p)).item() * (1 - 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("pair", list(permutations(NAMED, 2)), ids="-".join)
def test_the_named_relations_hold_at_random_points(pair):
    first, second = (NAMED[name] for name in pair)
    found, gap = relation(first, second), loss(first, random_points()) - loss(second, random_points())
    assert {
        "stronger": bool((gap >= -1e-12).all()),
        "weaker": bool((gap <= 1e-12).all()),
        "equivalent": bool((gap.abs() <= 1e-12).all()),
        "incomparable": bool((gap > 1e-9).any() and (gap < -1e-9).any()),
    }[found.kind]
    turned = {"stronger": "weaker", "weaker": "stronger"}
    assert relation(second, first) == Relation(turned.get(found.kind, found.kind), found.by)


def test_the_order_of_the_named_losses():
    stronger = {(a, b) for a, b in permutations(NAMED, 2) if relation(NAMED[a], NAMED[b]).kind == "stronger"}
    assert {("unlikelihood", "orpo"), ("cpo", "ccpo"), ("orpo", "ccpo"), ("dpo", "ccpo_ref")} <= stronger
    assert relation(NAMED["orpo"], NAMED["cpo"]) == Relation("incomparable", "witnesses")
    assert relation(NAMED["dpo"], NAMED["cpo"]) == Relation("incomparable", "witnesses")


def test_orpo_is_above_cpo_exactly_where_the_dispreferred_is_likelier():
    points = random_points()
    above = loss(NAMED["orpo"], points) > loss(NAMED["cpo"], points)
    assert above.equal(points[1] > points[0])


def test_a_structure_is_equivalent_to_its_shortest_form():
    for structure in NAMED.values():
        short = of_rows(structure.win, structure.lose)
        assert relation(structure, short) == Relation("equivalent", "meaning")


def test_counts_decide_where_rows_do_not():
    # judging CPO only where the reference accepts w multiplies wins and losses by the same q_w: same values, other rows
    judged = Structure(parse("M(l) -> M(w)"), parse("Ref(w) and (M(w) or M(l))"), parse("M(w) and M(l)"))
    assert not entails(judged, NAMED["cpo"]) and not entails(NAMED["cpo"], judged)
    assert relation(judged, NAMED["cpo"]) == Relation("equivalent", "value")
    # M(w) against its negation where Ref(l) is judged: by value still not below the implication
    narrow = Structure(parse("M(w)"), parse("Ref(l)"))
    assert relation(narrow, NAMED["implication"]) == Relation("stronger", "value")
    assert relation(NAMED["implication"], narrow) == Relation("weaker", "value")


@given(st.integers(1, ALL), st.integers(1, ALL), st.integers(1, ALL), st.integers(1, ALL))
@few
def test_relations_of_any_two_structures_hold_at_random_points(win, lose, other_win, other_lose):
    first, second = of_rows(win, lose), of_rows(other_win, other_lose)
    gap = log_ratio(second, random_points(50)) - log_ratio(first, random_points(50))
    kind = relation(first, second).kind
    assert kind != "stronger" or bool((gap >= -1e-9).all())
    assert kind != "weaker" or bool((gap <= 1e-9).all())
    assert kind != "equivalent" or bool((gap.abs() <= 1e-9).all())


def test_certificates_by_hand():
    from collections import Counter

    # p^2 - p(1-p) + (1-p)^2 = 3 p^2 - 3 p + 1 > 0: seen only one degree higher, where it is p^3 + (1-p)^3
    hidden = Counter({(2,): 1, (1,): -1, (0,): 1})
    assert +elevated(hidden) == Counter({(3,): 1, (0,): 1})
    assert certified(hidden) == "+"
    assert certified(Counter({(1,): -2})) == "-"
    assert certified(Counter({(1,): 0})) == "0"
    assert certified(Counter({(2,): 1, (0,): -1})) == "undecided"  # 2p - 1 changes sign
    assert products(NAMED["cpo"].win, NAMED["cpo"].lose, (0, 1)) == Counter(
        {(1, 1): 1, (2, 1): 1, (1, 2): 1, (2, 2): 1}
    )


@given(st.integers(1, ALL), st.integers(1, ALL), st.integers(0, 3))
@few
def test_directions_of_any_structure_hold_at_random_points(win, lose, atom):
    structure = of_rows(win, lose)
    found = coefficients(structure, random_points(50)).get(atom, torch.zeros(50, dtype=torch.float64))
    sign = direction(structure, atom)
    assert sign != "+" or bool((found >= -1e-8).all())
    assert sign != "-" or bool((found <= 1e-8).all())
    assert sign != "0" or bool((found.abs() <= 1e-8).all())


def test_directions_of_the_named_losses():
    signs = {name: tuple(direction(s, atom) for atom in range(4)) for name, s in NAMED.items()}
    assert signs["dpo"] == ("+", "-", "-", "+")
    assert signs["unlikelihood"] == signs["orpo"] == signs["cpo"] == ("+", "-", "0", "0")
    assert signs["npo"] == ("0", "-", "0", "+")
    assert direction(Structure(parse("M(w) xor M(l)")), 0) == "both"


def test_the_hasse_diagram_is_the_order_without_its_shortcuts():
    edges = hasse(NAMED)
    reach = set(edges)
    for _ in NAMED:
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c}
    assert reach == {
        (a, b) for a, b in permutations(NAMED, 2) if relation(NAMED[a], NAMED[b]).by == "meaning"
        and relation(NAMED[a], NAMED[b]).kind == "stronger"
    }  # fmt: skip
    for edge in edges:
        assert not any((edge[0], c) in reach and (c, edge[1]) in reach for c in NAMED)


def test_the_census_of_two_atoms_by_another_count():
    found = census()
    assert found.all == 4**2**2
    # without a loss: no row wins, 2^4 markings, or none loses, 2^4, or neither, 1
    assert found.losses == 256 - 16 - 16 + 1
    # constant: W = Z, one for each of the 15 sets; over independent atoms no other ratio is
    assert found.losses - found.speaking == 15
    # monotone, by the differences of the ratio on a grid instead of certificates
    grid = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    p = {0: grid.log()[:, None].expand(49, 49).reshape(-1), 1: grid.log().repeat(49)}
    rows = [sum(1 << r for r in range(16) if r & 3 == corner) for corner in range(4)]
    sets = [sum(part for part in chosen) for size in range(1, 5) for chosen in combinations(rows, size)]
    monotone = both = 0
    for win in sets:
        for lose in sets:
            if win == lose:
                continue
            ratio = log_ratio(of_rows(win, lose), p | {2: p[0], 3: p[0]}).reshape(-1, 49, 49)[0]
            up, down = ratio.diff(dim=0), ratio.diff(dim=1)
            if bool((up >= -1e-12).all()) and bool((down <= 1e-12).all()):
                monotone += 1
                both += bool((up > 1e-9).any()) and bool((down < -1e-9).any())
    assert (found.monotone, found.both) == (monotone, both)
