"""The contract of pairings, in both worlds: which widths they take, what they give, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from contract.axes import PAIRINGS, Row, named
from contract.scenes import (
    ORACLE_VERBS,
    Text,
    called,
    comparisons,
    declared,
    game,
    kinds,
    needs,
    plain,
    table_rows,
    table_states,
    used,
    watched,
)
from equipoise.play.capabilities import Perturbations, RandomDraws, needing
from equipoise.play.needs import ORACLE, PAIRS, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.sampled import WithThird
from equipoise.play.rows import Rows, objects
from equipoise.play.state import State
from equipoise.run.planning.defaults import per_prompt
from equipoise.worlds.table.world import TableWorld

CASES = named(PAIRINGS)
each_pairing = pytest.mark.parametrize("row", CASES.values(), ids=CASES.keys())
WIDTHS = range(1, 10)
ROUNDS = 3


@dataclass
class Formed:
    """The comparisons of rounds 1 to 3, the rows they were formed of, and the calls that it took."""

    given: list[Rows]
    rows: list[Rows]
    calls: list[Any]
    called: set[str]


def form(
    pairing: Any, kind: str, width: int, text: Text, *, turned: bool = False, remember: int | None = None
) -> Formed:
    """Rounds 1 to 3 on rows of one width; `turned`, the same rows in another order."""
    if kind == "table":
        reach = pairing.reach(ROUNDS) if remember is None else remember
        world: Any = TableWorld(game(), remember=reach)
        states: list[State] = table_states(world, ROUNDS)
        given = [table_rows(width, seed=round) for round in range(ROUNDS)]
    else:
        world, states = text.world(needs(pairing), at=2), text.states
        given = [text.rows(width, seed=round) for round in range(ROUNDS)]
    if turned:
        given = [rows.take(np.roll(np.arange(len(rows)), 2)[::-1]) for rows in given]
    seen, formed = watched(world), []
    for state, rows in zip(states, given, strict=True):
        kept = world.stage(state, "sampling", lambda rows=rows: rows)
        formed.append(
            world.stage(state, "judging", lambda state=state, kept=kept: pairing.form(seen, state, kept))
        )
    return Formed(given, formed, seen.calls, called(seen))


def accepts(pairing: Any, width: int) -> bool:
    try:
        pairing.check(width)
    except ValueError as error:
        assert len(str(error).split()) > 4 and not str(error).endswith(".")
        return False
    return True


def fitting(row: Row) -> int:
    """A width that it takes, with as many responses as make several comparisons."""
    if "width" in row.exempt:
        return 2
    return next(width for width in (4, 2, 3, 1) if accepts(row.example, width))


Forms = Callable[[Row], dict[str, Formed]]


@pytest.fixture(scope="module")
def forms(text: Text) -> Forms:
    """Every example forms its comparisons once in each of its worlds, of rows of a width that it takes."""
    known: dict[int, dict[str, Formed]] = {}

    def get(row: Row) -> dict[str, Formed]:
        if id(row) not in known:
            known[id(row)] = {kind: form(row.example, kind, fitting(row), text) for kind in kinds(row)}
        return known[id(row)]

    return get


# the checks ---------------------------------------------------------------------------------------


def check_width(row: Row, text: Text) -> None:
    """`check` accepts the widths whose rows can be formed, and no other.

    It knows no worlds, and refuses what samples cannot give where an exact game could.
    """
    for width in WIDTHS:
        if accepts(row.example, width):
            check_comparisons(form(row.example, kinds(row)[0], width, text))
        else:
            with pytest.raises(ValueError):
                form(row.example, "text", width, text)


def check_comparisons(formed: Formed) -> None:
    for given, rows in zip(formed.given, formed.rows, strict=True):
        assert set(rows.prompts.tolist()) <= set(given.prompts.tolist())
        assert np.isfinite(rows.weight).all() and (rows.weight >= 0).all()
        if rows.prob is not None:
            assert ((rows.prob >= 0) & (rows.prob <= 1)).all()
        if rows.reward is not None:
            assert np.isfinite(rows.reward).all()
    assert any(len(rows) for rows in formed.rows)


def check_result(row: Row, forms: Forms, text: Text) -> None:
    for formed in forms(row).values():
        check_comparisons(formed)


def check_needs(row: Row, forms: Forms, text: Text) -> None:
    for formed in forms(row).values():
        assert bool(ORACLE_VERBS & formed.called) == needs(row.example).oracle
        assert ("recorded" in formed.called) == (needs(row.example).records is not None)


def check_capabilities(row: Row, forms: Forms, text: Text) -> None:
    touched = set[str]().union(*(used(formed.called) for formed in forms(row).values()))
    assert touched == declared(row.example)


def check_replay(row: Row, forms: Forms, text: Text) -> None:
    for kind, formed in forms(row).items():
        again = form(row.example, kind, fitting(row), text)
        assert [plain(rows) for rows in again.rows] == [plain(rows) for rows in formed.rows]


def check_reach(row: Row, forms: Forms, text: Text) -> None:
    """It asks for comparisons of the past exactly where it says so, and no further back."""
    for kind, formed in forms(row).items():
        back = [call.given[1] for call in formed.calls if call.name == "past"]
        assert max(back, default=0) <= row.example.reach(ROUNDS)
        assert bool(back) == bool(row.example.reach(ROUNDS))
        if kind == "table":  # nothing more is wanted than what is kept for it
            kept = form(row.example, kind, fitting(row), text, remember=ROUNDS)
            assert [plain(rows) for rows in kept.rows] == [plain(rows) for rows in formed.rows]


def check_count(row: Row, forms: Forms, text: Text) -> None:
    """It says how many comparisons a prompt's samples give, at most; an exact game enumerates them all."""
    for kind, formed in forms(row).items():
        given, made = formed.given[0], formed.rows[0]
        most = per_prompt(row.example, given.responses.shape[1])
        assert kind == "table" or f"count in {kind}" in row.exempt or len(made) <= most * len(given)


def check_permutation(row: Row, forms: Forms, text: Text) -> None:
    for kind, formed in forms(row).items():
        turned = form(row.example, kind, fitting(row), text, turned=True)
        same = all(same_comparisons(a, b) for a, b in zip(formed.rows, turned.rows, strict=True))
        drawn = RandomDraws.__name__ in declared(row.example)
        assert same == (not drawn and f"permutation in {kind}" not in row.exempt)


def same_comparisons(first: Rows, second: Rows) -> bool:
    (what, numbers), (others, other) = comparisons(first), comparisons(second)
    return what == others and numbers.shape == other.shape and np.allclose(numbers, other, rtol=1e-9)


CHECKS = [
    check_result,
    check_needs,
    check_capabilities,
    check_replay,
    check_reach,
    check_count,
    check_permutation,
]


@pytest.mark.slow
@each_pairing
@pytest.mark.parametrize("check", CHECKS)
def test_is_as_it_says(check: Any, row: Row, forms: Forms, text: Text):
    check(row, forms, text)


@pytest.mark.slow
@each_pairing
def test_checks_the_widths_that_it_can_form(row: Row, text: Text):
    if "width" in row.exempt:
        with pytest.raises(ValueError, match="is made of a pair, got a comparison of"):
            check_width(row, text)
        return
    check_width(row, text)


@pytest.mark.parametrize("third, parts", [("second", 2), ("last", 3)])
def test_every_response_has_one_part_in_comparisons_with_a_third(third: Any, parts: int, text: Text):
    """The third response is the pair's second one, or by the last policy and then in no pair."""
    pairing = WithThird(third=third)
    for width in WIDTHS:
        assert accepts(pairing, width) == (width % parts == 0)
        if width % parts:
            continue
        rows = text.rows(width)
        rows = replace(rows, responses=objects([text.answers[:width]] * len(rows), width=width))
        formed = pairing.form(text.world(at=2), text.states[1], rows)
        assert formed.writers == ("start",) * 3
        groups = [
            tuple(text.answers.index(response) for response in group)
            for prompt, group in zip(formed.prompts, formed.responses, strict=True)
            if prompt is rows.prompts[0]
        ]
        share = width // parts
        assert groups == [(k, share + k, (parts - 1) * share + k) for k in range(share)]


# each check refuses a pairing that is wrong in this one way -----------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wrong(Pairing):
    """Takes two columns and says any width; its numbers are of no use, and change from call to call."""

    count: list[int] = field(default_factory=list)
    needs: ClassVar[Needs] = PAIRS | ORACLE
    capabilities: ClassVar[tuple[type, ...]] = (Perturbations,)

    def form(self, world: Any, state: State, rows: Rows) -> Rows:
        self.count.append(1)
        needing(world, RandomDraws).uniforms(state, "wrong", 1)
        world.past(state, 1)
        at = np.arange(len(rows), dtype=float)
        return replace(rows.columns([np.full(len(rows), 1)]), weight=-at, prob=at + len(self.count))

    def comparisons(self, width: int) -> int:
        return 0

    def reach(self, rounds: int) -> int:
        return 0

    def describe(self) -> str:
        return "wrong"


WRONG = Row(example=Wrong(), exempt={"table": "draws"})


@pytest.mark.parametrize("check", CHECKS)
def test_a_wrong_pairing_is_seen(check: Any, forms: Forms, text: Text):
    with pytest.raises(AssertionError):
        check(WRONG, forms, text)


def test_a_wrong_width_is_seen(text: Text):
    with pytest.raises((AssertionError, IndexError)):
        check_width(WRONG, text)
