"""Goal-conditioned relabelling: both copies of a pair, what is left out, and the cancellation without goals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.core.objectives import Dpo
from equipoise.core.scores import Scores
from equipoise.data.errors import DataError
from equipoise.data.goals import GOAL, Goals, relabelled
from equipoise.data.reading.read import Dataset, read
from equipoise.data.records import Message
from equipoise.data.split import split


def data(tmp_path: Path, *rows: dict) -> Dataset:
    path = tmp_path / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(path)


def pair(high: float, low: float, prompt: str = "Why?", **more: object) -> dict:
    answers = {"chosen": f"Because {prompt}", "rejected": f"No {prompt}"}
    return {"prompt": prompt, **answers, "score_chosen": high, "score_rejected": low, **more}


def test_a_pair_becomes_two_with_swapped_roles(tmp_path: Path):
    made, goals = relabelled(data(tmp_path, pair(9, 4.5)))
    first, second = made.records
    assert first.context == "Give an answer whose quality is rated 9.\n\nWhy?"
    assert second.context == "Give an answer whose quality is rated 4.5.\n\nWhy?"
    assert [c.text for c in first.candidates] == ["Because Why?", "No Why?"]
    assert [c.text for c in second.candidates] == ["No Why?", "Because Why?"]
    assert goals.best == "9" and (first.attributes[GOAL], second.attributes[GOAL]) == ("9", "4.5")
    assert first.id != second.id and first.prob == second.prob == 1


def test_what_cannot_be_relabelled_is_left_out_and_noted(tmp_path: Path):
    rows = [
        pair(9, 4),
        pair(5, 5, "equal"),
        pair(7.001, 7, "equal in three digits"),
        pair(2, 8, "against the label"),
        {"prompt": "no scores", "chosen": "a", "rejected": "b"},
    ]
    made, _ = relabelled(data(tmp_path, *rows))
    assert {record.attributes[GOAL] for record in made.records} == {"9", "4"} and len(made) == 2
    notes = "\n".join(made.notes)
    assert "2 pairs left out: both responses have the same goal" in notes
    assert "1 pairs left out: the label contradicts the scores" in notes
    assert "1 pairs left out: a response has no score" in notes


def test_relabelled_pairs_are_not_relabelled_again(tmp_path: Path):
    made, _ = relabelled(data(tmp_path, pair(9, 4)))
    with pytest.raises(DataError, match="the attribute `goal`, which relabelled pairs have"):
        relabelled(made)


def test_both_copies_stay_on_one_side_of_a_split(tmp_path: Path):
    made, _ = relabelled(data(tmp_path, *(pair(9, 4, f"question {n}") for n in range(20))))
    sides = split(list(made.records), 0.3)
    asked = [{str(record.context).partition("\n\n")[2] for record in side} for side in sides]
    assert not asked[0] & asked[1] and [len(side) for side in sides] == [2 * len(a) for a in asked]


def test_levels_divide_the_scores_in_parts_of_equal_size(tmp_path: Path):
    rows = [pair(high, low, f"q{n}") for n, (high, low) in enumerate([(6, 1), (5, 2), (4, 3)])]
    made, goals = relabelled(data(tmp_path, *rows), "{goal}", ["poor", "fair", "good"])
    found = {(r.id.partition("#")[2], r.attributes[GOAL]) for r in made.records}
    assert found == {("1", "good"), ("2", "poor")}  # 4 and 3 are both fair
    assert len(made) == 4 and goals.best == "good"
    assert [goals.name(score) for score in (1, 2, 3, 4, 5, 6)] == ["poor"] * 2 + ["fair"] * 2 + ["good"] * 2


def test_a_conversation_is_asked_in_its_system_turn():
    goals = Goals()
    user = Message(role="user", content="Hi {goal}")
    system = Message(role="system", content="Be brief.")
    alone = goals.conditioned((user,), "7")
    assert alone == (Message(role="system", content="Give an answer whose quality is rated 7."), user)
    both = goals.conditioned((system, user), "7")
    assert both == (
        Message(role="system", content="Be brief.\n\nGive an answer whose quality is rated 7."),
        user,
    )
    assert goals.bare(alone, "7") == (user,) and goals.bare(both, "7") == (system, user)


@given(st.text(), st.text(min_size=1), st.booleans())
def test_bare_undoes_conditioned(prompt: str, system: str, chat: bool):
    goals = Goals()
    user = Message(role="user", content=prompt)
    for context in ((Message(role="system", content=system), user), (user,)) if chat else (prompt,):
        assert goals.bare(goals.conditioned(context, "3.5"), "3.5") == context


def test_scores_count_by_their_order_and_the_printed_goal_alone(tmp_path: Path):
    plain, _ = relabelled(data(tmp_path, pair(9, 4), pair(8, 3, "Who?")), "{goal}", ["low", "high"])
    scaled, _ = relabelled(data(tmp_path, pair(90, 40), pair(80, 30, "Who?")), "{goal}", ["low", "high"])
    seen = [[(r.context, [c.text for c in r.candidates]) for r in made.records] for made in (plain, scaled)]
    assert seen[0] == seen[1]


def test_without_goals_the_copies_cancel_at_the_reference():
    """The gradient of DPO on a pair and its swapped copy is 0 at margin 0: what is learned is read off the goals."""
    logp = torch.tensor([-3.0, -5.0], requires_grad=True)
    both = torch.stack([logp, logp.flip(0)])
    scores = Scores(logp=both, anchors={"reference": both.detach()})
    Dpo(beta=0.1)(scores).value.sum().backward()
    assert logp.grad is not None and logp.grad.abs().max() == 0


def test_refusals_are_sentences(tmp_path: Path):
    with pytest.raises(DataError, match=r"must hold \{goal\}"):
        Goals(sentence="Be good.")
    for levels in (("one",), ("a", "a")):
        with pytest.raises(DataError, match="at least two different levels"):
            Goals(levels=levels)
    for strange in ({"levels": ("low", " ")}, {"levels": ("low", "\ud800")}, {"sentence": "\udcff {goal}"}):
        with pytest.raises(DataError, match=r"blank|surrogate"):
            Goals(**strange)
    with pytest.raises(DataError, match="no pair has a score of each response"):
        relabelled(data(tmp_path, {"prompt": "x", "chosen": "a", "rejected": "b"}))
    with pytest.raises(DataError, match="both responses have the same goal"):
        relabelled(data(tmp_path, pair(5, 5)))
