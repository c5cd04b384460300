"""Preference structures: the table of the paper, counts, gradients, and the way back from a ratio."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from equipoise.core import Scores
from equipoise.core.objectives import CATALOG
from equipoise.semantics.algebra import P_L, P_W, Q_L, Q_W, Multilinear, closed_form, decompile, polynomials
from equipoise.semantics.count import coefficients, log_count, log_ratio, loss
from equipoise.semantics.formula import ALL, ATOMS, HOLDS, members
from equipoise.semantics.losses import LINKS, READINGS, STRUCTURES, UNREAD
from equipoise.semantics.parse import parse
from equipoise.semantics.structure import Structure, of_rows, with_reference

few = settings(max_examples=30, deadline=None)  # a loaded machine is no reason to fail
NAMED = {name: entry.structure for name, entry in STRUCTURES.items()}
EVERY_ATOM = (0, 1, 2, 3)


def weights(rows: int = 50, seed: int = 0) -> torch.Tensor:
    """Independent probabilities [4, rows], of every size between 0.01 and 0.99."""
    generator = torch.Generator().manual_seed(seed)
    return 0.01 + 0.98 * torch.rand(4, rows, generator=generator, dtype=torch.float64)


def logs(p: torch.Tensor) -> dict[int, torch.Tensor]:
    return dict(enumerate(p.log()))


def odds(p):
    return p / (1 - p)


# name -> the ratio of the card's table, as arithmetic on numbers
CARD = {
    "unlikelihood": lambda w, l, rw, rl: w * (1 - l) / (1 - w * (1 - l)),
    "cpo": lambda w, l, rw, rl: w / l,
    "ccpo": lambda w, l, rw, rl: w / (l * (1 - w)),
    "orpo": lambda w, l, rw, rl: odds(w) / odds(l),
    "dpo": lambda w, l, rw, rl: (w / l) * (rl / rw),
}
ALSO = {
    "sft": lambda w, l, rw, rl: odds(w),
    "reject": lambda w, l, rw, rl: 1 / odds(l),
    "cunlikelihood": lambda w, l, rw, rl: w * (1 - l) / l,
    "implication": lambda w, l, rw, rl: 1 / (l * (1 - w)) - 1,
    "ccpo_ref": lambda w, l, rw, rl: w / (l * (1 - w)) * rl / rw,
    "orpo_ref": lambda w, l, rw, rl: odds(w) / odds(l) * rl / rw,
    "cunlikelihood_ref": lambda w, l, rw, rl: w * (1 - l) / l * rl / rw,
    "raise": lambda w, l, rw, rl: w / rw,
    "npo": lambda w, l, rw, rl: rl / l,
    "simnpo": lambda w, l, rw, rl: 1 / l,
    "raise_odds": lambda w, l, rw, rl: odds(w) / odds(rw),
    "npo_odds": lambda w, l, rw, rl: odds(rl) / odds(l),
    "hold": lambda w, l, rw, rl: rw / w,
}
RATIOS = CARD | ALSO
each = pytest.mark.parametrize("name", NAMED)


def test_every_named_structure_has_its_arithmetic_here():
    assert RATIOS.keys() == NAMED.keys()


@each
def test_the_counted_ratio_is_the_closed_one(name):
    p = weights()
    counted = log_ratio(NAMED[name], logs(p))
    assert torch.allclose(counted, RATIOS[name](*p).log(), rtol=1e-12, atol=1e-13)
    assert torch.allclose(loss(NAMED[name], logs(p)), (1 / RATIOS[name](*p)).log1p(), rtol=1e-11)


def test_all_rows_together_weigh_one():
    for atoms in ((0,), (0, 1), (1, 3), EVERY_ATOM):
        total = log_count(ALL, atoms, logs(weights()))
        assert total.abs().max() < 1e-14


@each
def test_wins_and_losses_overlap_exactly_in_the_rows_that_count_both_ways(name):
    structure = NAMED[name]
    assert structure.win & structure.lose == structure.also.rows & structure.given.rows
    assert structure.win | structure.lose == structure.given.rows


@each
def test_marks_partition_the_rows(name):
    structure = NAMED[name]
    marks = [structure.mark(row) for row in range(16)]
    assert [row for row in range(16) if marks[row] in ("win", "both")] == list(members(structure.win))
    assert [row for row in range(16) if marks[row] in ("lose", "both")] == list(members(structure.lose))
    assert len(structure.marks()) == 2 ** len(structure.atoms)


def test_the_marks_of_the_papers_losses_over_two_atoms():
    # rows (w, l) = (1,1), (1,0), (0,1), (0,0)
    expected = {
        "orpo": ["ignored", "win", "lose", "ignored"],
        "cpo": ["both", "win", "lose", "ignored"],
        "ccpo": ["win", "win", "lose", "ignored"],
        "unlikelihood": ["lose", "win", "lose", "lose"],
    }
    for name, marks in expected.items():
        assert [NAMED[name].mark(row) for row in (0b11, 0b01, 0b10, 0b00)] == marks


@each
def test_exchanging_the_responses_inverts_symmetric_ratios_and_no_others(name):
    p = weights()
    here, there = log_ratio(NAMED[name], logs(p)), log_ratio(NAMED[name], logs(p[[1, 0, 3, 2]]))
    inverted = torch.allclose(here, -there, atol=1e-12)
    assert inverted == NAMED[name].symmetric == (name in ("cpo", "orpo", "dpo", "orpo_ref"))
    swapped = NAMED[name].swapped()
    assert torch.allclose(log_ratio(swapped, logs(p)), there, rtol=1e-12, atol=1e-13)


def test_dpo_is_cpo_with_a_reference():
    assert with_reference(NAMED["cpo"]).same_rows(NAMED["dpo"])
    for name in ("ccpo", "orpo", "cunlikelihood"):
        assert with_reference(NAMED[name]).same_rows(NAMED[f"{name}_ref"])


# gradients ---------------------------------------------------------------------------------------


@each
def test_the_counted_coefficients_are_the_gradient(name):
    logp = weights().log().requires_grad_()
    structure, given_logs = NAMED[name], dict(enumerate(logp))
    (grad,) = torch.autograd.grad(log_ratio(structure, given_logs).sum(), logp)
    counted = coefficients(structure, given_logs)
    for atom in EVERY_ATOM:
        want = counted.get(atom, torch.zeros_like(grad[atom]))
        # (a difference of shares) / (1 - p): up to two digits are lost at p = 0.99
        assert torch.allclose(grad[atom], want, rtol=1e-11, atol=1e-12)


def test_the_coefficients_of_the_card():
    p = weights()
    w, l = p[0], p[1]
    one = torch.ones_like(w)
    a = w * (1 - l)
    expected = {
        "cpo": (one, -one),
        "dpo": (one, -one),
        "orpo": (1 / (1 - w), -1 / (1 - l)),
        "ccpo": (1 + odds(w), -one),
        "unlikelihood": (1 / (1 - a), -odds(l) / (1 - a)),
    }
    for name, wanted in expected.items():
        found = coefficients(NAMED[name], logs(p))
        for atom, want in enumerate(wanted):
            assert torch.allclose(found[atom], want, rtol=1e-11), (name, atom)


@each
def test_the_losses_gradient_is_the_coefficient_times_the_share_still_lost(name):
    logp = weights().log().requires_grad_()
    given_logs = dict(enumerate(logp))
    (grad,) = torch.autograd.grad(loss(NAMED[name], given_logs).sum(), logp)
    lost = torch.sigmoid(-log_ratio(NAMED[name], given_logs))
    for atom, coefficient in coefficients(NAMED[name], given_logs).items():
        assert torch.allclose(grad[atom], -lost * coefficient, rtol=1e-10, atol=1e-12)


def test_counts_are_accurate_where_probabilities_are_tiny_or_all_but_one():
    # log odds at p = e^-700: -700; at p = 1 - 1e-5: log(1 - p) loses nothing, log p is -log1p(...)
    logp = {0: torch.tensor([-700.0, math.log1p(-1e-5)], dtype=torch.float64)}
    wanted = [-700.0, math.log1p(-1e-5) - math.log(1e-5)]
    assert log_ratio(NAMED["sft"], logp).tolist() == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("logp", [0.0, 1e-9, -math.inf, math.nan])
def test_probabilities_outside_the_open_interval_are_refused(logp):
    with pytest.raises(ValueError, match=r"the probability of M\(l\) must lie strictly between 0 and 1"):
        loss(NAMED["cpo"], {0: torch.tensor([-1.0]), 1: torch.tensor([logp])})
    with pytest.raises(KeyError, match=r"M\(l\)"):
        loss(NAMED["cpo"], {0: torch.tensor([-1.0])})


@pytest.mark.parametrize(
    ("core", "given_where", "reason"),
    [("false", "true", "no row wins"), ("true", "true", "no row loses"), ("M(w)", "false", "no row wins")],
)
def test_a_structure_without_a_loss_is_refused(core, given_where, reason):
    with pytest.raises(ValueError, match=reason):
        Structure(parse(core), parse(given_where))


# from a ratio to its formula ---------------------------------------------------------------------


@each
def test_a_ratio_of_polynomials_gives_its_structure(name):
    entry = STRUCTURES[name]
    assert decompile(entry.numerator, entry.denominator).same_rows(entry.structure)
    assert decompile(3 * entry.numerator, 3 * entry.denominator).same_rows(entry.structure)


@pytest.mark.parametrize("name", CARD)
def test_the_papers_formulas_come_back_from_the_ratio_alone(name):
    entry = STRUCTURES[name]
    found, written = decompile(entry.numerator, entry.denominator), entry.structure
    for part in ("core", "given", "also"):
        assert getattr(found, part).rows == getattr(written, part).rows, part
    if name != "dpo":  # the paper's order of the atoms is another
        assert tuple(map(str, (found.core, found.given, found.also))) == entry.formulas


@given(st.integers(1, ALL), st.integers(1, ALL))
@few
def test_every_structure_over_four_atoms_survives_the_way_to_polynomials_and_back(win, lose):
    structure = of_rows(win, lose)
    assert (structure.win, structure.lose) == (win, lose)
    assert decompile(*polynomials(structure)).same_rows(structure)


def test_every_structure_over_two_atoms_survives_too():
    rows = [sum(1 << r for r in range(16) if r & 3 == corner) for corner in range(4)]
    sets = [
        sum(part for part, taken in zip(rows, chosen, strict=True) if taken)
        for chosen in product((0, 1), repeat=4)
    ]
    for win, lose in product(sets[1:], sets[1:]):
        structure = of_rows(win, lose)
        assert (structure.win, structure.lose) == (win, lose)
        assert set(structure.atoms) <= {0, 1}


def test_polynomials_are_what_their_symbols_say():
    p = weights()
    w, l, rw, rl = p
    cases = {
        P_W * (1 - P_L) + Q_W * Q_L: w * (1 - l) + rw * rl,
        2 * P_W - P_L * (Q_W + Q_L) + 1: 2 * w - l * (rw + rl) + 1,
        3 - (P_L - Q_L) * P_W: 3 - (l - rl) * w,
    }
    for polynomial, value in cases.items():
        corners = [
            corner * torch.stack([p[i] if row >> i & 1 else 1 - p[i] for i in range(4)]).prod(0)
            for row, corner in enumerate(polynomial.corners)
        ]
        assert torch.allclose(torch.stack(corners).sum(0), value)


def test_what_is_no_ratio_of_counts_is_refused():
    with pytest.raises(ValueError, match="p_w squared"):
        P_W * (1 - P_W)
    with pytest.raises(ValueError, match="the numerator is 2 where p_w = 1, p_l = 1"):
        decompile(P_W + P_L, P_L)
    # Jensen-Shannon's margin: the polynomial p_w (p_l + q_l) counts a row twice
    with pytest.raises(ValueError, match="the numerator is 2"):
        decompile(P_W * (P_L + Q_L), P_L * (P_W + Q_W))
    with pytest.raises(ValueError, match="denominator is -1"):
        decompile(P_W, P_L - P_W)
    with pytest.raises(ValueError, match="no row wins"):
        decompile(P_W - P_W, P_L)


def arithmetic(text: str, p: torch.Tensor) -> torch.Tensor:
    """A closed form as numbers: juxtaposition is multiplication."""
    written = text
    for a, b in ((" (", "*("), (") p", ")*p"), (") q", ")*q")):
        written = written.replace(a, b)
    for operator in "+-/":
        written = written.replace(f"{operator}*(", f"{operator} (")
    for a, b in product(("p_w", "p_l", "q_w", "q_l"), repeat=2):
        written = written.replace(f"{a} {b}", f"{a}*{b}")
    written = written.removeprefix("*")
    names = dict(zip(("p_w", "p_l", "q_w", "q_l"), p, strict=True))
    return eval(written, {"__builtins__": {}}, names) * torch.ones_like(p[0])


@given(st.integers(1, ALL), st.integers(1, ALL))
@few
def test_the_closed_form_of_any_structure_is_its_ratio(win, lose):
    p, structure = weights(5), of_rows(win, lose)
    assume(structure.win != structure.lose)
    assert torch.allclose(
        arithmetic(closed_form(structure), p).log(), log_ratio(structure, logs(p)), rtol=1e-9, atol=1e-11
    )


@given(st.integers(1, ALL), st.integers(1, ALL), st.integers(0, 3))
@few
def test_the_closed_coefficient_of_any_structure_is_the_counted_one(win, lose, atom):
    from equipoise.semantics.algebra import coefficient

    p, structure = weights(5), of_rows(win, lose)
    counted = coefficients(structure, logs(p)).get(atom, torch.zeros_like(p[0]))
    assert torch.allclose(arithmetic(coefficient(structure, atom), p), counted, rtol=1e-8, atol=1e-10)


def test_closed_forms_read_as_in_the_papers():
    forms = {name: closed_form(NAMED[name]) for name in NAMED}
    assert forms["cpo"] == "p_w / p_l"
    assert forms["ccpo"] == "p_w / (p_l (1 - p_w))"
    assert forms["orpo"] == "p_w (1 - p_l) / (p_l (1 - p_w))"
    assert forms["dpo"] == "p_w q_l / (p_l q_w)"
    assert forms["unlikelihood"] == "p_w (1 - p_l) / (1 - p_w (1 - p_l))"


# what objectives say -----------------------------------------------------------------------------


def test_every_part_and_link_of_a_reading_has_a_name():
    for name, reading in READINGS.items():
        assert reading.link in LINKS, name
        assert {part for _, part in reading.parts} <= NAMED.keys(), name
    assert not READINGS.keys() & UNREAD.keys()


def link_of(name: str, log_r: torch.Tensor) -> torch.Tensor:
    """The link of a reading at its exact setting, with the constants of its note."""
    soft, exact, e = torch.nn.functional.softplus, READINGS[name].exact, READINGS[name].exact.get("smoothing")
    target = exact["eta"] / 2 if "eta" in exact else 0.5 / exact.get("tau", 1.0)
    won, lost = torch.sigmoid(log_r), torch.sigmoid(-log_r)
    k = torch.sigmoid(log_r / exact.get("temperature", 1.0))
    return {
        "logistic": lambda: soft(-log_r),
        "smoothed": lambda: (1 - e) * soft(-log_r) + e * soft(log_r),
        "debiased": lambda: soft(-log_r) - exact["flip"] / (1 - 2 * exact["flip"]) * log_r,
        "squared": lambda: (log_r - target).square(),
        "hinge": lambda: torch.relu(1 - log_r),
        "linear": lambda: 1 - won,
        "entropy": lambda: won * (won / (1 - e)).log() + lost * (lost / e).log(),
        "modulated": lambda: (1 - k) * soft(-log_r) + k * torch.exp(-log_r),
    }[READINGS[name].link]()


def weight_of(text: str, exact) -> float:
    """A weight as written: "1", "1/2", or parameters side by side."""
    return math.prod(exact[word] if word in exact else float(Fraction(word)) for word in text.split())


@pytest.mark.parametrize("name", [name for name, reading in READINGS.items() if reading.exact])
def test_an_objective_is_the_link_of_its_structures(name):
    if name not in CATALOG:
        pytest.skip(f"{name} is not in the catalogue")
    reading = READINGS[name]
    objective = CATALOG[name].build(**reading.exact)
    p = weights(20)
    # token means differ from sums only where the reading says so; a likelihood beside a sum is tried on single tokens
    length = (
        1.0
        + torch.arange(20 * objective.candidates, dtype=torch.float64).reshape(20, -1) % 7 * reading.lengths
    )
    pad = torch.zeros(20, objective.candidates - 2, dtype=torch.float64)
    policy, anchor = (
        torch.cat([log_p.T * length[:, :2], pad], dim=1) for log_p in (p[:2].log(), p[2:].log())
    )
    scores = Scores(logp=policy, anchors=dict.fromkeys(objective.anchors, anchor), length=length)
    wanted = sum(
        weight_of(weight, reading.exact) * link_of(name, log_ratio(NAMED[part], logs(p)))
        for weight, part in reading.parts
    )
    assert torch.allclose(objective(scores).value, wanted, rtol=1e-11)


@pytest.mark.parametrize("name", ["npo", "simnpo", "gradient_ascent", "apo_zero_unpaired"])
def test_an_objective_on_one_response_is_the_link_of_its_structure(name):
    if name not in CATALOG:
        pytest.skip(f"{name} is not in the catalogue")
    objective = CATALOG[name].build(**({} if name == "gradient_ascent" else {"beta": 1.0}))
    p = weights(20)
    length = torch.ones(20, 1, dtype=torch.float64)
    rejected = Scores(
        logp=p[1].log()[:, None],
        anchors=dict.fromkeys(objective.anchors, p[3].log()[:, None]),
        length=length,
        reward=torch.zeros_like(length),
    )
    log_r = log_ratio(NAMED[READINGS[name].parts[-1][1]], logs(p))
    wanted = {
        "logistic": lambda: 2 * torch.nn.functional.softplus(-log_r),  # NPO's weight 2/beta
        "bare": lambda: -log_r,
        "linear": lambda: torch.sigmoid(-log_r),
    }[READINGS[name].link]()
    assert torch.allclose(objective(rejected).value, wanted, rtol=1e-11)


def test_sums_of_two_structures_that_are_one():
    # the odds terms of ASFT are the unlikelihood structure; one formula per response, because atoms are independent
    given_logs = logs(weights())
    apart = loss(NAMED["sft"], given_logs) + loss(NAMED["reject"], given_logs)
    assert torch.allclose(loss(NAMED["unlikelihood"], given_logs), apart, rtol=1e-12)


def test_one_response_readings_by_arithmetic():
    # NPO at beta = 1 is twice softplus(log p - log q); KTO's rejected term is 1 - sigma(log q - log p)
    p = weights()
    ratio = p[1].log() - p[3].log()
    assert torch.allclose(loss(NAMED["npo"], logs(p)), torch.nn.functional.softplus(ratio), rtol=1e-12)
    assert torch.allclose(
        1 - torch.sigmoid(log_ratio(NAMED["npo"], logs(p))), torch.sigmoid(ratio), rtol=1e-12
    )


def test_atoms_of_structures():
    assert [ATOMS[i] for i in NAMED["npo"].atoms] == ["M(l)", "Ref(l)"]
    assert of_rows(HOLDS[0], HOLDS[0]).atoms == (0,)
    assert of_rows(ALL, ALL).atoms == (0, 1)
    assert isinstance(P_W, Multilinear)
