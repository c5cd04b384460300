"""The votes file: pairs and presses as lines, undone, torn, resumed; the plan that they follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.reading.read import read
from equipoise.label.desk import PlannedDesk, Stale
from equipoise.label.errors import LabelError
from equipoise.label.pairs import Pair, drawn, of_dataset, of_two
from equipoise.label.plan import APART, plan
from equipoise.label.votes import Vote, Votes, claim

PAIRS = [Pair(context=f"prompt {i}", answers=(f"first {i}", f"second {i}"), id=f"p{i}") for i in range(8)]


def begun(folder: Path, pairs: list[Pair] = PAIRS, seed: int = 0, repeats: float = 0.0) -> Votes:
    return Votes.begin(folder / "v.jsonl", pairs, seed=seed, repeats=repeats, question="?")


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# the plan -------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 9), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_a_plan_shows_every_pair_once_and_a_share_once_more_later(count: int, seed: int, repeats: float):
    pairs = [Pair(context=str(i), answers=("a", "b")) for i in range(count)]
    items = plan(pairs, seed, "ann", repeats)
    shown = [item.pair.context for item in items if not item.again]
    again = [(place, item.pair.context) for place, item in enumerate(items) if item.again]
    assert sorted(shown) == sorted(pair.context for pair in pairs)
    assert len(again) == round(repeats * count) == len({context for _, context in again})
    for place, context in again:
        first = next(i for i, item in enumerate(items) if item.pair.context == context)
        apart = min(APART, count // 2)
        assert place - first > (apart if len(again) <= count - apart else 0)
    assert items == plan(pairs, seed, "ann", repeats)


def test_sides_are_drawn_for_each_showing_and_orders_for_each_rater():
    pairs = [Pair(context=str(i), answers=("a", "b")) for i in range(400)]
    ann, bob = plan(pairs, 0, "ann", 1.0), plan(pairs, 0, "bob", 1.0)
    assert 340 < sum(item.left for item in ann) < 460  # 800 fair draws: 400, deviation 14
    sides: dict[str, set[int]] = {}
    for item in ann:
        sides.setdefault(item.pair.context, set()).add(item.left)
    assert 150 < sum(len(both) == 2 for both in sides.values()) < 250  # redrawn: half of the repeats
    assert [item.pair for item in ann] != [item.pair for item in bob]
    assert ann[0].sides == (("a", "b") if ann[0].left == 0 else ("b", "a"))


# the file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "choice", "value"),
    [
        (0, "a", 1.0),
        (1, "a", 0.0),
        (0, "b", 0.0),
        (1, "b", 1.0),
        (0, "tie", 0.5),
        (1, "bad", None),
        (0, "skip", None),
    ],
)
def test_a_press_means_what_stood_on_its_side(left: int, choice: str, value: float | None):
    assert Vote(rater="ann", item=0, pair="k", left=left, choice=choice).value == value


def test_every_press_is_a_line_and_the_file_alone_brings_them_back(tmp_path: Path):
    desk = PlannedDesk(begun(tmp_path))
    desk.choose("ann", 0, "a", " clear \n")
    desk.choose("ann", 1, "tie")
    desk.undo("ann", 2)
    desk.choose("ann", 1, "bad")
    desk.choose("bob", 0, "skip")
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "begin",
        *["pair"] * 8,
        "vote",
        "vote",
        "undo",
        "vote",
        "vote",
    ]
    items = plan(PAIRS, 0, "ann")
    assert [lines[9][name] for name in ("rater", "item", "choice", "note", "left", "pair")] == [
        "ann",
        0,
        "a",
        "clear",
        items[0].left,
        items[0].pair.key,
    ]
    again = Votes.read(tmp_path / "v.jsonl")
    assert list(again.pairs.values()) == PAIRS
    assert [vote.choice for vote in again.cast["ann"]] == ["a", "bad"]
    assert again.cast == desk.votes.cast
    assert PlannedDesk(begun(tmp_path)).show("ann").item == items[2]


def test_undo_shows_the_question_again_with_what_was_answered(tmp_path: Path):
    desk = PlannedDesk(begun(tmp_path))
    first = desk.show("ann")
    assert (first.number, first.total, first.undo, first.before) == (0, 8, False, None)
    desk.choose("ann", 0, "b", "why")
    desk.undo("ann", 1)
    shown = desk.show("ann")
    assert shown.item == first.item and shown.before is not None
    assert (shown.before.choice, shown.before.note) == ("b", "why")
    with pytest.raises(Stale, match="nothing to take back"):
        desk.undo("ann", 0)


def test_a_press_on_a_question_that_is_not_open_changes_nothing(tmp_path: Path):
    desk = PlannedDesk(begun(tmp_path))
    desk.choose("ann", 0, "a")
    before = (tmp_path / "v.jsonl").read_bytes()
    for number in (0, 2, -1):  # pressed twice; from a page that is older or of another rater
        with pytest.raises(Stale):
            desk.choose("ann", number, "b")
    with pytest.raises(Stale):
        desk.undo("ann", 0)
    assert (tmp_path / "v.jsonl").read_bytes() == before


@pytest.mark.parametrize("torn", ["{", '{"event": "vote", "rater": "ann", "item": 1, "pair": "'])
def test_a_torn_last_line_counts_as_not_written(tmp_path: Path, torn: str):
    PlannedDesk(begun(tmp_path)).choose("ann", 0, "a")
    with (tmp_path / "v.jsonl").open("a") as file:
        file.write(torn)
    desk = PlannedDesk(begun(tmp_path))
    assert desk.show("ann").number == 1
    desk.choose("ann", 1, "b")
    assert [vote.choice for vote in Votes.read(tmp_path / "v.jsonl").cast["ann"]] == ["a", "b"]


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        "[]",
        '{"event": "vote"}',
        '{"event": "other"}',
        '{"event": "undo", "rater": "x", "item": 0}',
    ],
)
def test_a_damaged_line_before_the_last_is_refused_with_its_number(tmp_path: Path, wrong: str):
    begun(tmp_path)
    with (tmp_path / "v.jsonl").open("a") as file:
        file.write(wrong + "\n")
    with pytest.raises(LabelError, match=r"v\.jsonl, line 10: "):
        Votes.read(tmp_path / "v.jsonl")


def test_a_file_begun_with_something_else_is_not_gone_on_with(tmp_path: Path):
    begun(tmp_path)
    with pytest.raises(LabelError, match="was begun with seed 0, not 1"):
        begun(tmp_path, seed=1)
    with pytest.raises(LabelError, match="begun with other pairs"):
        begun(tmp_path, PAIRS[1:])
    (tmp_path / "v.jsonl").write_text('{"prompt": "x"}\n')
    with pytest.raises(LabelError, match=r"v\.jsonl, line 1"):
        begun(tmp_path)


def test_votes_that_do_not_follow_the_plan_are_refused(tmp_path: Path):
    votes = begun(tmp_path)
    other = plan(PAIRS, 0, "ann")[3]
    votes.cast_vote(Vote(rater="ann", item=0, pair=other.pair.key, left=other.left, choice="a"))
    with pytest.raises(LabelError, match="answer 1 of ann is to another question"):
        PlannedDesk(begun(tmp_path))


def test_one_page_writes_a_votes_file(tmp_path: Path):
    with claim(tmp_path / "v.jsonl"), pytest.raises(LabelError, match="another page writes"):
        claim(tmp_path / "v.jsonl")
    with claim(tmp_path / "v.jsonl"):
        pass


# what is compared -----------------------------------------------------------------------------------


def test_pairs_keep_turns_tools_labels_and_systems(tmp_path: Path):
    said = [("user", "hi"), ("assistant", "yes?"), ("user", "x")]
    turns = [{"role": role, "content": text} for role, text in said]
    row = {
        "prompt": turns,
        "chosen": "one",
        "rejected": "two",
        "chosen_model": "big",
        "rejected_model": "small",
    }
    arena = {"prompt": "p", "response_a": "left", "response_b": "right", "winner": "model_b"}
    arena |= {"model_a": "m", "model_b": "n"}
    row |= {name: [{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
    (pair,), notes = of_dataset(read(write(tmp_path / "p.jsonl", row)), 0)
    assert pair.turns == said and not notes
    assert (pair.texts, pair.systems, pair.recorded) == (("one", "two"), ("big", "small"), 1.0)
    assert Pair.of_line(json.loads(json.dumps(pair.as_line()))) == pair
    (pair,), _ = of_dataset(read(write(tmp_path / "a.jsonl", arena)), 0)
    assert (pair.texts, pair.systems) == (("right", "left"), ("n", "m"))


def test_of_a_list_two_answers_are_drawn(tmp_path: Path):
    rows = [{"prompt": f"p{i}", "responses": ["x", "y", "z"], "rewards": [1.0, 3.0, 2.0]} for i in range(90)]
    pairs, _ = of_dataset(read(write(tmp_path / "l.jsonl", *rows)), 0)
    met = {pair.texts for pair in pairs}
    assert len(pairs) == 90 and met == {("x", "y"), ("x", "z"), ("y", "z")}
    assert {pair.texts: pair.recorded for pair in pairs} == {
        ("x", "y"): 0.0,
        ("x", "z"): 0.0,
        ("y", "z"): 1.0,
    }


def test_two_files_of_answers_meet_by_prompt(tmp_path: Path):
    one = [{"prompt": p, "completion": f"{p} of one"} for p in ("a", "b", "c")]
    other = [{"prompt": p, "completion": f"{p} of other"} for p in ("c", "a", "d")]
    other.append({"prompt": "b", "completion": "b of one"})
    sides = [read(write(tmp_path / name, *rows)) for name, rows in (("o.jsonl", one), ("t.jsonl", other))]
    pairs, notes = of_two(*sides, ("o", "t"))
    assert [pair.texts for pair in pairs] == [("a of one", "a of other"), ("c of one", "c of other")]
    assert {pair.systems for pair in pairs} == {("o", "t")}
    assert notes == [
        "1 pairs of equal answers are not shown",
        "answers without one to meet: 0 of o, 1 of t; not shown",
    ]
    with pytest.raises(LabelError, match="share no prompt"):
        of_two(sides[0], read(write(tmp_path / "n.jsonl", {"prompt": "z", "completion": "1"})), ("o", "n"))


def test_a_number_of_pairs_is_drawn_by_seed():
    assert drawn(PAIRS, 3, 0) == drawn(PAIRS, 3, 0) != drawn(PAIRS, 3, 1)
    assert drawn(PAIRS, None, 0) == drawn(PAIRS, 99, 0) == PAIRS
