"""The contract of players, in both worlds: how wide they write, whose responses, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from contract.axes import PLAYERS, Row, named
from contract.scenes import (
    ORACLE_VERBS,
    Text,
    called,
    declared,
    game,
    kinds,
    plain,
    table_states,
    used,
    watched,
)
from equipoise.play.capabilities import Perturbations, PromptTemplates, RandomDraws, needing
from equipoise.play.component import parts
from equipoise.play.needs import ORACLE, PAIRS, Needs
from equipoise.play.players.protocol import Players
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, START, State
from equipoise.worlds.table.world import TableWorld

CASES = named(PLAYERS)
each_player = pytest.mark.parametrize("row", CASES.values(), ids=CASES.keys())


@dataclass
class Played:
    """What players wrote in rounds 1 and 2 of a world, and the calls that it took."""

    world: Any
    states: list[State]
    rows: list[Rows]
    called: set[str]


def play(players: Any, kind: str, text: Text) -> Played:
    if kind == "table":
        world: Any = TableWorld(game())
        states = table_states(world, 2)
    else:
        world, states = text.world(players.needs, at=2), text.states[:2]
    seen = watched(world)
    return Played(world, states, [players.write(seen, state) for state in states], called(seen))


Plays = Callable[[Row], dict[str, Played]]


@pytest.fixture(scope="module")
def plays(text: Text) -> Plays:
    """Every example is played once in each of its worlds."""
    known: dict[int, dict[str, Played]] = {}

    def get(row: Row) -> dict[str, Played]:
        if id(row) not in known:
            known[id(row)] = {kind: play(row.example, kind, text) for kind in kinds(row)}
        return known[id(row)]

    return get


# the checks ---------------------------------------------------------------------------------------


def check_width(row: Row, plays: Plays) -> None:
    for played in plays(row).values():
        later = played.rows[1]  # the first round may read recorded pairs in place of samples
        assert len(later) > 0
        if row.example.width is None:
            assert row.example.needs.lists
        else:
            assert later.responses.shape[1] == row.example.width


def check_exchangeable(row: Row, plays: Plays) -> None:
    for played in plays(row).values():
        columns = {name for rows in played.rows for name in rows.writers}
        assert row.example.exchangeable == (len(columns) == 1 and "recorded" not in columns)


def check_sampled(row: Row, plays: Plays) -> None:
    for played in plays(row).values():
        writers = {name for rows in played.rows for name in rows.writers}
        assert row.example.sampled == bool(writers - {"recorded", "rationale"})


def check_prompts(row: Row, plays: Plays) -> None:
    """Prompts and weights are the world's: samples of an exact game share the weight of their prompt."""
    for kind, played in plays(row).items():
        for state, rows in zip(played.states, played.rows, strict=True):
            sampled = "recorded" not in rows.writers
            source = played.world.prompts(state) if sampled else played.world.recorded(state).alone()
            if sampled and row.example.needs.records and not set(rows.prompts) <= set(source.prompts):
                source = played.world.recorded(state)  # samples for the prompts of recorded responses
            if PromptTemplates in row.example.capabilities:  # it writes the prompts in words of its own
                assert {p.context for p in rows.prompts} <= {p.context for p in source.prompts}
                continue
            assert set(rows.prompts.tolist()) <= set(source.prompts.tolist())
            assert (rows.weight >= 0).all()
            if kind == "table" and sampled:
                shares = np.bincount(rows.prompts, rows.weight, 2)
                assert np.allclose(shares, source.weight, rtol=1e-12)
            if kind == "text" and sampled:
                texts, all_texts = ([p.text for p in some.prompts] for some in (rows, source))
                first_rows = list(
                    dict.fromkeys(texts)
                )  # a search tree gives several pairs of a prompt, or none
                assert first_rows == [text for text in all_texts if text in first_rows]
                shares = getattr(row.example, "parts", 1)  # rounds that share the prompts
                assert len(texts) == len(all_texts) // shares or row.example.width == 2


def check_replay(row: Row, plays: Plays, text: Text) -> None:
    for kind, played in plays(row).items():
        again = play(row.example, kind, text)
        assert [plain(rows) for rows in again.rows] == [plain(rows) for rows in played.rows]


def check_needs(row: Row, plays: Plays) -> None:
    for played in plays(row).values():
        assert ("recorded" in played.called) == (row.example.needs.records is not None)
        assert bool(ORACLE_VERBS & played.called) == any(part.needs.oracle for part in parts(row.example))


def check_capabilities(row: Row, plays: Plays) -> None:
    touched = set[str]().union(*(used(played.called) for played in plays(row).values()))
    assert touched == declared(row.example)


@pytest.mark.slow
@each_player
@pytest.mark.parametrize(
    "check", [check_width, check_exchangeable, check_sampled, check_prompts, check_needs, check_capabilities]
)
def test_is_as_it_says(check: Any, row: Row, plays: Plays):
    check(row, plays)


@pytest.mark.slow
@each_player
def test_the_same_state_gives_the_same_rows(row: Row, plays: Plays, text: Text):
    check_replay(row, plays, text)


@each_player
def test_a_number_of_samples_is_honoured_or_refused_in_a_sentence(row: Row, text: Text):
    """Where it is honoured the width grows with it, and is what is written."""
    (kind, *_) = kinds(row)
    widths = []
    for samples in (1, 2, 3, 5):
        try:
            changed = row.example.writing(samples)
        except ValueError as error:
            assert len(str(error).split()) > 4 and not str(error).endswith(".")
            continue
        assert type(changed) is type(row.example)
        written = play(changed, kind, text).rows[1].responses.shape[1] if samples < 3 else changed.width
        assert written == changed.width
        widths.append(changed.width)
    assert widths == sorted(set(widths))


@each_player
def test_rows_are_read_back_from_their_stage_as_they_were_written(row: Row, plays: Plays, text: Text):
    if "text" not in kinds(row):
        pytest.skip(row.exempt["text"])
    world = text.world()
    for state, rows in zip(text.states, plays(row)["text"].rows, strict=False):
        assert plain(world.stage(state, "sampling", lambda rows=rows: rows)) == plain(rows)


@pytest.mark.parametrize(
    "row", [row for row in PLAYERS if row.exempt], ids=lambda row: row.example.describe()
)
def test_what_is_exempt_from_a_world_cannot_be_played_there(row: Row, text: Text):
    for kind in row.exempt:
        try:
            played = play(row.example, kind, text)
        except (ValueError, KeyError):
            continue
        assert kind == "table" and played.rows[1].responses.shape[1] != row.example.width


# each check refuses players that are wrong in this one way ------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wrong(Players):
    """Two responses, one by each of two policies, with a draw that is not declared."""

    drawn: list[float] = field(default_factory=list)
    width: ClassVar[int] = 3
    exchangeable: ClassVar[bool] = True
    sampled: ClassVar[bool] = False
    needs: ClassVar[Needs] = PAIRS | ORACLE
    capabilities: ClassVar[tuple[type, ...]] = (Perturbations,)

    def write(self, world: Any, state: State) -> Rows:
        self.drawn.append(needing(world, RandomDraws).uniforms(state, "wrong", 1)[0])
        rows = world.prompts(state)
        for who in (START, INITIAL):
            rows = world.sample(state, rows, who, 1)
        rows = replace(rows, weight=rows.weight + len(self.drawn))
        return replace(rows, prompts=rows.prompts[::-1])

    def describe(self) -> str:
        return "wrong"


WRONG = Row(example=Wrong(), exempt={"table": "draws"})


@pytest.mark.parametrize(
    "check", [check_width, check_exchangeable, check_sampled, check_prompts, check_needs, check_capabilities]
)
def test_wrong_players_are_seen(check: Any, plays: Plays):
    with pytest.raises(AssertionError):
        check(WRONG, plays)


def test_rows_that_are_not_the_same_again_are_seen(plays: Plays, text: Text):
    with pytest.raises(AssertionError):
        check_replay(WRONG, plays, text)
