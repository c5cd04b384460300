"""Figures and training pairs of votes, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.data.reading.read import read
from equipoise.evaluate import clustered_share, wilson
from equipoise.label.errors import LabelError
from equipoise.label.export import training_pairs
from equipoise.label.pairs import Pair
from equipoise.label.summary import cohen, joined, summary
from equipoise.label.votes import Vote, Votes

# prompt, answers of system s and t, what the data record
PAIRS = [
    Pair(context=prompt, answers=(f"{prompt} s", f"{prompt} t"), systems=("s", "t"), recorded=recorded, id=prompt)
    for prompt, recorded in (("p0", 1.0), ("p1", 0.0), ("p2", 1.0), ("p3", 0.5), ("p4", 1.0), ("p5", 1.0))
]  # fmt: skip


def voted(path: Path, said: dict[str, list[tuple[int, int, str]]], pairs: list[Pair] = PAIRS) -> Path:
    """A votes file. said: rater -> (pair, the answer on the left, what was pressed) of each vote."""
    votes = Votes.begin(path, pairs, seed=0, repeats=0.5, question="?")
    for rater, cast in said.items():
        for item, (pair, left, choice) in enumerate(cast):
            votes.cast_vote(
                Vote(rater=rater, item=item, pair=pairs[pair].key, left=left, choice=choice, note="")
            )
    return path


ANN = [
    (0, 0, "a"),
    (1, 1, "a"),
    (2, 0, "tie"),
    (3, 0, "bad"),
    (4, 1, "b"),
    (0, 1, "b"),
    (1, 0, "a"),
    (5, 0, "skip"),
]
# value:  1           0            1/2            -              1            1 (again)    1 (again: not as before)
BOB = [(0, 0, "b"), (1, 0, "b"), (2, 1, "b"), (3, 0, "a")]
# value:  0           0            1            1


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [voted(tmp_path / "a.jsonl", {"ann": ANN}), voted(tmp_path / "b.jsonl", {"bob": BOB})]


class Judge:
    name = "judge"

    def compare(self, prompts: Any, a: Any, b: Any) -> torch.Tensor:
        said = {"p0": 0.9, "p1": 0.8, "p2": 0.2, "p3": 0.5, "p4": float("nan")}
        assert [f"{p} s" for p in prompts] == list(a) and [f"{p} t" for p in prompts] == list(b)
        return torch.tensor([said[p] for p in prompts], dtype=torch.float64)


# mean over raters of each rater's mean:  ann 1, 1/2, 1/2, -, 1;  bob 0, 0, 1, 1
LABELS = {"p0": 0.5, "p1": 0.25, "p2": 0.75, "p3": 1.0, "p4": 1.0}


def test_the_figures_of_two_raters_by_hand(files: list[Path]):
    figures = summary(joined(files), Judge())
    ann, bob = figures["raters"]
    assert (figures["pairs"], figures["labelled"]) == (6, 5)
    counts = {name: ann[name] for name in ("name", "answered", "of", "a", "b", "tie", "bad", "skip")}
    assert counts == {"name": "ann", "answered": 8, "of": 9, "a": 3, "b": 2, "tie": 1, "bad": 1, "skip": 1}
    assert ann["left"] == wilson(3, 5) and bob["left"] == wilson(1, 4)
    assert (
        ann["self_agreement"] == clustered_share([1.0, 0.0], ["p0", "p1"]) and bob["self_agreement"] is None
    )
    (win,) = figures["systems"]
    assert (win["first"], win["second"]) == ("s", "t")
    assert win["win_rate"] == clustered_share(list(LABELS.values()), list(LABELS))
    assert win["win_rate"]["value"] == pytest.approx(3.5 / 5)
    # both of p0 to p3: ann 1, 0, tie, bad; bob 0, 0, 1, 1. They agree on p1. Chance: ann's 1 with bob's two 1, ann's 0
    # with bob's two 0: (1*2 + 1*2) / 16
    (kappa,) = figures["between_raters"]
    assert (kappa["raters"], kappa["pairs"], kappa["agree"]) == (["ann", "bob"], 4, 0.25)
    assert kappa["kappa"] == pytest.approx((0.25 - 0.25) / 0.75)
    # data: p1 0 (people 1/4: agree), p2 1 (3/4: agree), p4 1 (agree); p0 a tie of people, p3 one of the data
    assert figures["recorded"] == {"agree": clustered_share([1.0] * 3, "abc"), "ties": 2, "without": 0}
    # judge: p1 and p2 against people, p4 without a verdict
    assert figures["oracle"] == {
        "name": "judge",
        "agree": clustered_share([0.0] * 2, "ab"),
        "ties": 2,
        "without": 1,
    }
    assert json.loads(json.dumps(figures)) == figures


def test_systems_that_change_their_places_are_one_pair_of_systems(tmp_path: Path):
    pairs = [PAIRS[0], Pair(context="q", answers=("q t", "q s"), systems=("t", "s"))]
    (win,) = summary(joined([voted(tmp_path / "v", {"ann": [(0, 0, "a"), (1, 0, "b")]}, pairs)]))["systems"]
    assert (win["first"], win["second"], win["win_rate"]["value"]) == ("s", "t", 1.0)  # s won both


def test_files_that_hold_a_pair_in_other_orders_agree(tmp_path: Path):
    turned = [Pair(context="p0", answers=("p0 t", "p0 s"), systems=("t", "s"), recorded=0.0)]
    one = voted(tmp_path / "one", {"ann": [(0, 0, "a")]}, PAIRS[:1])
    other = voted(tmp_path / "two", {"ann": [(0, 0, "b")]}, turned)
    figures = summary(joined([one, other]))
    assert [rater["name"] for rater in figures["raters"]] == ["ann", f"ann ({other})"]
    assert figures["pairs"] == 1 and figures["systems"][0]["win_rate"]["value"] == 1.0


@pytest.mark.parametrize(
    ("both", "agree", "kappa"),
    [
        ("", None, None),
        ("aa aa", 1.0, None),  # chance alone gives 1
        ("aa bb", 1.0, 1.0),
        ("ab ba", 0.0, -1.0),
        ("aa aa ab bb", 0.75, 0.5),  # chance 3/4 * 2/4 + 1/4 * 2/4 = 1/2
    ],
)
def test_cohens_kappa_by_hand(both: str, agree: float | None, kappa: float | None):
    assert cohen([(pair[0], pair[1]) for pair in both.split()]) == {"agree": agree, "kappa": kappa}


def test_training_pairs_by_hand_and_as_data_are_read(files: list[Path], tmp_path: Path):
    rows, account = training_pairs(joined(files))
    assert account == {"written": 5, "ties": 1, "both bad": 0, "skipped": 1, "not shown": 0}
    assert [(row["prompt"], row["chosen"], row["prob"], row["first_wins"], row["votes"]) for row in rows] == [
        ("p0", "p0 s", 0.5, 0.5, 2),
        ("p1", "p1 t", 0.75, 0.25, 2),
        ("p2", "p2 s", 0.75, 0.75, 2),
        ("p3", "p3 s", 1.0, 1.0, 1),  # ann called both bad, bob preferred the first
        ("p4", "p4 s", 1.0, 1.0, 1),
    ]
    assert [row["systems"] for row in rows[:2]] == [["s", "t"], ["t", "s"]]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = read(tmp_path / "pairs.jsonl")
    assert dataset.kind == "pair" and not dataset.ledger.refused
    assert [(record.candidates[0].text, record.prob) for record in dataset.records] == [
        (row["chosen"], row["prob"]) for row in rows
    ]


def test_one_rater_gives_ones_and_halves(tmp_path: Path):
    path = voted(
        tmp_path / "v", {"ann": [(0, 1, "a"), (1, 1, "b"), (2, 0, "tie"), (3, 0, "bad"), (4, 0, "skip")]}
    )
    rows, account = training_pairs(joined([path]))
    assert [(row["chosen"], row["prob"], row["first_wins"]) for row in rows] == [
        ("p0 t", 1.0, 0.0),
        ("p1 s", 1.0, 1.0),
        ("p2 s", 0.5, 0.5),
    ]
    assert account == {"written": 3, "ties": 1, "both bad": 1, "skipped": 1, "not shown": 1}


def test_chat_turns_tools_and_notes_come_through(tmp_path: Path):
    turns, tool = [{"role": "user", "content": "hi"}], {"type": "function", "function": {"name": "f"}}
    sides = tuple([{"role": "assistant", "content": text}] for text in "xy")
    pair = Pair(context=turns, answers=sides, tools=(tool,), template_kwargs={"thinking": False})
    votes = Votes.begin(tmp_path / "v", [pair], seed=0, repeats=0.0, question="?")
    votes.cast_vote(Vote(rater="ann", item=0, pair=pair.key, left=1, choice="a", note="short"))
    (row,), _ = training_pairs(joined([tmp_path / "v"]))
    assert (row["prompt"], row["chosen"], row["rejected"]) == (turns, sides[1], sides[0])
    assert (row["tools"], row["notes"], row["chat_template_kwargs"]) == (
        [tool],
        ["short"],
        {"thinking": False},
    )
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    (record,) = read(tmp_path / "p.jsonl").records
    assert (
        record.tools == (tool,) and record.template_kwargs == {"thinking": False} and record.space == "chat"
    )


def test_without_votes_there_is_nothing_to_say(tmp_path: Path):
    with pytest.raises(LabelError, match="there are no answers yet"):
        joined([voted(tmp_path / "v", {})])
    with pytest.raises(LabelError, match="no pair has a vote"):
        training_pairs(joined([voted(tmp_path / "w", {"ann": [(0, 0, "bad")]})]))
    with pytest.raises(LabelError, match="there is no votes file"):
        joined([tmp_path / "none"])
