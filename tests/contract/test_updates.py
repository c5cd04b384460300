"""The contract of updates, in both worlds: which policies move, which are kept, and what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from contract.axes import UPDATES, Row, named
from contract.scenes import ORACLE_VERBS, Text, called, declared, game, kinds, needs, used, watched
from equipoise.core.objectives import Dpo, FastSlowDpo
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.index import get
from equipoise.play.capabilities import Perturbations, RandomDraws, StepDifferences, needing
from equipoise.play.component import parts
from equipoise.play.method import Method
from equipoise.play.needs import ORACLE, PAIRS, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.rows import Rows
from equipoise.play.state import AVERAGE, FITTED, INITIAL, MAGNET, START, State
from equipoise.play.updates.basic import Averaged, Descend, Extrapolated, Magnetic, Refit, WithRecorded
from equipoise.play.updates.fast_slow import CrossDomainFastSlow, FastSlow
from equipoise.play.updates.live_reference import TokenWeighted
from equipoise.play.updates.ppo import TeacherRewards, TokenAdvantages
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.updates.reward_relearning import Restarted
from equipoise.worlds.table.world import TableWorld

CASES = named(UPDATES)
each_update = pytest.mark.parametrize("row", CASES.values(), ids=CASES.keys())
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Pairing):
    """The method's pairing in a world of its own, so that its calls are not taken for the update's."""

    base: Pairing
    world: Any = field(compare=False, repr=False)

    def form(self, world: Any, state: State, rows: Rows) -> Rows:
        return self.base.form(self.world, state, rows)

    def describe(self) -> str:
        return self.base.describe()


@dataclass
class Moves:
    """What an update moved round by round, the states in between, and the calls that it took.

    contents   of the policies that moved, taken at once: what a round made on the way is not kept for long.
    """

    initial: Any
    moved: list[Moved] = field(default_factory=list)
    contents: list[dict[str, Any]] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    called: set[str] = field(default_factory=set)


def method_of(row: Row, kind: str) -> Method:
    """The row's method with the example as its update, in the form that the world plays."""
    method = get(row.method)
    own = {name: getattr(part, name) for part in parts(row.example) for name in part.parameters}
    known = method.parameters()
    exact = method.exact if kind == "table" else {}
    method = method.with_parameters({**exact, **{n: v for n, v in own.items() if n in known}})
    method = replace(method, update=row.example, schedules={}, rounds=ROUNDS)
    return method.on_exact_games(ROUNDS) if kind == "table" else method


def play(row: Row, kind: str, text: Text, rounds: int | None = None) -> Moves:
    method = method_of(row, kind)
    if kind == "table":
        world: Any = TableWorld(game(), remember=method.reach)
        state = State.begin(world.game.initial(), method.update.memory)
    else:
        world = text.world(method.needs)
        world.model.hold(text.states[0].policies[INITIAL])
        state = world.begin(method.update.memory)
    seen = watched(world)
    apart = replace(method, pairing=Elsewhere(base=method.pairing, world=world))
    moves = Moves(content(state.policies[INITIAL]), states=[state])
    for _ in range(rounds or (ROUNDS if kind == "table" else 2)):
        written = world.stage(state, "sampling", lambda state=state: method.players.write(world, state))
        rows = world.stage(
            state, "judging", lambda state=state, written=written: method.pairing.form(world, state, written)
        )
        tokens = method.objective is not None and method.objective.reads.tokens
        anchors = world.anchors(state, rows, method.anchors, tokens=tokens)
        moves.moved.append(method.update.move(apart, seen, state, rows, anchors))
        moves.contents.append({name: content(policy) for name, policy in moves.moved[-1].items()})
        state = world.settle(state.advance(moves.moved[-1]))
        moves.states.append(state)
    moves.called = called(seen)
    return moves


Played = Callable[[Row], dict[str, Moves]]


@pytest.fixture(scope="module")
def played(text: Text) -> Played:
    """Every example is played once in each of its worlds."""
    known: dict[int, dict[str, Moves]] = {}

    def get(row: Row) -> dict[str, Moves]:
        if id(row) not in known:
            known[id(row)] = {kind: play(row, kind, text) for kind in kinds(row)}
        return known[id(row)]

    return get


def content(policy: Any) -> Any:
    """What a policy is, to be compared exactly: a table's log-probs, or the bytes of a checkpoint's weights."""
    if isinstance(policy, Path):
        (weights,) = policy.glob("model*.safetensors")
        return weights.read_bytes()
    return policy.log_probs().tolist()


# the checks ---------------------------------------------------------------------------------------


def check_names(row: Row, played: Played) -> None:
    """In every round the starting policy moves; of those that are kept each does in some round, and no other."""
    kept = set(row.example.memory)
    for moves in played(row).values():
        for moved in moves.moved:
            assert START in moved
        assert set().union(*moves.moved) == {START, *kept}
        assert all(kept <= set(state.policies) for state in moves.states)


def check_moves(row: Row, played: Played) -> None:
    """Something is learnt: a policy other than the initial one."""
    for kind, moves in played(row).items():
        learnt = any(policy != moves.initial for moved in moves.contents for policy in moved.values())
        assert learnt == (f"moves in {kind}" not in row.exempt)
        assert content(moves.states[-1].policies[INITIAL]) == moves.initial


def check_needs(row: Row, played: Played) -> None:
    for moves in played(row).values():
        assert bool(ORACLE_VERBS & moves.called) == needs(row.example).oracle
        assert ("recorded" in moves.called) == (needs(row.example).records is not None)


def check_capabilities(row: Row, played: Played) -> None:
    touched = set[str]().union(*(used(moves.called) for moves in played(row).values()))
    assert touched == declared(row.example)


def check_fits(row: Row, played: Played) -> None:
    """It minimises the round's objective exactly where it says so; otherwise it takes gradient steps."""
    for moves in played(row).values():
        assert row.example.fits == (
            bool({"fit", "fit_with"} & moves.called) and "descend" not in moves.called
        )


CHECKS = [check_names, check_moves, check_needs, check_capabilities, check_fits]


@pytest.mark.slow
@each_update
@pytest.mark.parametrize("check", CHECKS)
def test_is_as_it_says(check: Any, row: Row, played: Played):
    check(row, played)


IN_TABLES = {name: row for name, row in CASES.items() if "table" in kinds(row)}


@pytest.mark.parametrize("row", IN_TABLES.values(), ids=IN_TABLES.keys())
def test_the_same_rounds_give_the_same_tables(row: Row, played: Played, text: Text):
    assert play(row, "table", text).contents == played(row)["table"].contents


@pytest.mark.parametrize("name", ["Refit", "Averaged", "LiveRefit-2", "TokenAdvantages", "ZerothOrder"])
def test_the_same_round_gives_the_same_checkpoint(name: str, played: Played, text: Text):
    row = CASES[name]
    again = play(row, "text", text, rounds=1)
    assert again.contents[0] == played(row)["text"].contents[0]


# wrappers that add nothing are what they are built on -------------------------------------------------


def moved_by(update: Any, method: str, text: Text) -> list[Moved]:
    row = Row(example=update, method=method)
    return play(row, "table", text).moved


STEP = Descend(rate=0.2)
CHASE = FastSlow(rate=0.5)
SAME = {
    "extrapolated by nothing": (Extrapolated(alpha=0.0), Refit(), "apo"),
    "averaged": (Averaged(base=STEP), STEP, "dpo"),
    "with a magnet that nothing is drawn to": (Magnetic(base=STEP, every=1), STEP, "dpo"),
    "restarted after its last round": (Restarted(base=STEP, every=ROUNDS + 1), STEP, "rloo"),
    "with weights of one": (TokenWeighted(by=StepDifferences(mark="")), Refit(), "dpo"),
    "without steps on recorded pairs": (WithRecorded(base=STEP, offline=0.0), STEP, "sail_dpp"),
    "with a teacher that counts for nothing": (
        TeacherRewards(base=TokenAdvantages(base=STEP, whiten=False), beta1=0.0),
        TokenAdvantages(base=STEP, whiten=False),
        "ppo",
    ),
    "before its domain ends": (CrossDomainFastSlow(base=CHASE, stay=ROUNDS + 1), CHASE, "ofs_dpo"),
}


@pytest.mark.parametrize("wrapper, base, method", SAME.values(), ids=SAME.keys())
def test_a_wrapper_that_adds_nothing_moves_as_its_base(wrapper: Any, base: Any, method: str, text: Text):
    wrapped, plain = moved_by(wrapper, method, text), moved_by(base, method, text)
    for here, there in zip(wrapped, plain, strict=True):
        for name in there:
            assert torch.allclose(here[name].probs(), there[name].probs(), rtol=0, atol=1e-12), name


def test_a_wrapper_that_adds_something_does_not_move_as_its_base(text: Text):
    wrapped = moved_by(Extrapolated(alpha=0.5), "apo", text)
    plain = moved_by(Refit(), "apo", text)
    assert not torch.allclose(wrapped[1][START].probs(), plain[1][START].probs(), rtol=0, atol=1e-6)


def test_a_magnet_moves_to_the_policy_every_so_many_rounds(text: Text):
    moved = moved_by(Magnetic(base=STEP, every=2), "dpo", text)
    assert [MAGNET in names for names in moved] == [False, True, False]
    assert content(moved[1][MAGNET]) == content(moved[1][START])


def test_an_average_and_a_fit_are_what_they_are_called(text: Text):
    row = Row(example=Averaged(base=STEP, decay=0.4), method="dpo")
    moves = play(row, "table", text)
    for before, moved in zip(moves.states, moves.moved, strict=False):
        kept, new = (policy.log_probs() for policy in (before.policies[AVERAGE], moved[START]))
        assert torch.allclose(
            moved[AVERAGE].probs(), (0.4 * kept + 0.6 * new).softmax(dim=1), rtol=0, atol=1e-12
        )
    first = moved_by(Extrapolated(alpha=0.5), "apo", text)[0]
    assert content(first[FITTED]) != content(first[START])


def test_without_a_chase_the_fast_policy_makes_steps_of_dpo(text: Text):
    method = replace(get("ofs_dpo"), objective=FastSlowDpo(beta=0.5, chase=0.0))
    dpo = replace(get("dpo"), objective=Dpo(beta=0.5), update=Descend(rate=0.5))
    world = TableWorld(game())
    tables = []
    for played in (replace(method, update=CHASE), dpo):
        state = State.begin(world.game.initial(), played.update.memory)
        rows = world.recorded(state)
        anchors = world.anchors(state, rows, played.anchors)
        tables.append(played.update.move(played, world, state, rows, anchors)[START])
    assert torch.allclose(tables[0].probs(), tables[1].probs(), rtol=0, atol=1e-12)


# each check refuses an update that is wrong in this one way -------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wrong(Update):
    """Moves nothing, under a name that it does not keep, after a draw that it does not declare."""

    memory: ClassVar[tuple[str, ...]] = (AVERAGE,)
    fits: ClassVar[bool] = True
    needs: ClassVar[Needs] = PAIRS | ORACLE
    capabilities: ClassVar[tuple[type, ...]] = (Perturbations,)

    def move(self, method: Rules, world: Any, state: State, rows: Rows, anchors: Anchors) -> Moved:
        needing(world, RandomDraws).uniforms(state, "wrong", 1)
        return {START: state.policies[START], MAGNET: state.policies[START]}

    def describe(self) -> str:
        return "wrong"


WRONG = Row(example=Wrong(), method="dpo", exempt={"table": "draws"})


@pytest.mark.parametrize("check", CHECKS)
def test_a_wrong_update_is_seen(check: Any, played: Played):
    with pytest.raises(AssertionError):
        check(WRONG, played)


def test_contents_tell_policies_apart(text: Text):
    first, second = (state.policies[START] for state in text.states[:2])
    assert content(first) == content(first) != content(second)
    uniform = TabularPolicy(torch.zeros(1, 2, dtype=torch.float64))
    assert content(uniform) != content(TabularPolicy(torch.tensor([[0.0, 1e-9]], dtype=torch.float64)))
