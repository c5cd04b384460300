"""Hints are whole mappings that work when followed, and no list of prompts hides answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from equipoise.data.errors import DataError
from equipoise.data.formats.answer_like import are_partners, is_prose, words_of
from equipoise.data.formats.registry import FORMATS
from equipoise.data.reading.read import read

Rows = Callable[..., Path]


def many(row: dict[str, Any], count: int = 3) -> list[dict[str, Any]]:
    """Rows like this one, whose sentences (strings with a space) differ."""
    return [{name: _numbered(value, n) for name, value in row.items()} for n in range(count)]


def _numbered(value: Any, number: int) -> Any:
    if isinstance(value, list):
        return [_numbered(item, number) for item in value]
    if isinstance(value, dict):
        return {name: _numbered(item, number) for name, item in value.items()}
    return f"{value} {number}" if isinstance(value, str) and " " in value else value


ASK, GOOD, BAD = "what is it", "it is this", "it is that"

TALK = [{"role": "user", "content": ASK}, {"role": "assistant", "content": GOOD}]
OTHER_TALK = [TALK[0], {"role": "assistant", "content": BAD}]

# row, and the mapping that must be offered
OFFERED: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"prompt": ASK, "good": GOOD, "bad": BAD}, {"chosen": "good", "rejected": "bad"}),
    ({"prompt": ASK, "better": GOOD, "worse": BAD}, {"chosen": "better", "rejected": "worse"}),
    ({"prompt": ASK, "winner": GOOD, "loser": BAD}, {"chosen": "winner", "rejected": "loser"}),
    ({"prompt": ASK, "pos_text": GOOD, "neg_text": BAD}, {"chosen": "pos_text", "rejected": "neg_text"}),
    ({"task": ASK, "chosen": GOOD, "rejected": BAD}, {"prompt": "task"}),
    (
        {"sys": "be very brief", "ask": ASK, "chosen": GOOD, "rejected": BAD},
        {"prompt": "ask", "system": "sys"},
    ),
    (
        {"prompt": ASK, "a": GOOD, "b": BAD, "winner": "a"},
        {"response_a": "a", "response_b": "b"},
    ),
    (
        {"question": ASK, "option_a": GOOD, "option_b": BAD, "verdict": "b"},
        {"prompt": "question", "response_a": "option_a", "response_b": "option_b", "winner": "verdict"},
    ),
    (
        {"prompt": ASK, "left": GOOD, "right": BAD, "pick": "left"},
        {"response_a": "left", "response_b": "right", "winner": "pick"},
    ),
    ({"question": ASK, "answer1": GOOD, "answer2": BAD, "preferred": "answer1"}, {"winner": "preferred"}),
    ({"prompt": ASK, "reply": GOOD, "thumbs_up": 1}, {"completion": "reply", "label": "thumbs_up"}),
    (
        {"user_input": ASK, "bot_reply": GOOD, "liked": True},
        {"prompt": "user_input", "completion": "bot_reply", "label": "liked"},
    ),
    ({"prompt": ASK, "completion": GOOD, "labels": True}, {"label": "labels"}),
    ({"prompt": ASK, "choosen": GOOD, "rejected": BAD}, {"chosen": "choosen"}),
    ({"Prompt": ASK, "chosen": GOOD, "rejected": BAD}, {"prompt": "Prompt"}),
    ({"prompt": ASK, " chosen": GOOD, "rejected": BAD}, {"chosen": " chosen"}),
    ({"Q: user": ASK, "chosen": GOOD, "rejected": BAD}, {"prompt": "Q: user"}),
    (
        {"instruction": ASK, "context": "said before", "positive": GOOD, "negative": BAD},
        {"chosen": "positive", "rejected": "negative"},
    ),
    ({"messages": TALK, "rejected": BAD}, {"rejected_response": "rejected"}),
    (
        {"conversations": TALK, "rejected_conversations": OTHER_TALK},
        {"messages": "conversations", "rejected_messages": "rejected_conversations"},
    ),
]


@pytest.mark.parametrize(("row", "mapping"), OFFERED, ids=lambda value: "-".join(value))
def test_a_hint_is_followed(row: dict[str, Any], mapping: dict[str, str], rows: Rows) -> None:
    path = rows(*many(row))
    with pytest.raises(DataError) as caught:
        read(path)
    line = re.search(r"`(mapping: \{.*?\})`", str(caught.value))
    assert line, caught.value
    offered = yaml.safe_load(line[1])["mapping"]
    assert offered == mapping
    data = read(path, mapping=offered)
    assert len(data) == 3 and not data.ledger.refused
    assert not any("not used" in note for note in data.notes)


# rows of which nothing may be guessed: which answer is better, or whether high is best
UNDECIDED: list[dict[str, Any]] = [
    {"prompt": ASK, "response_0": "Eight.", "response_1": "Six.", "correct": 0},
    {"prompt": ASK, "response_a": GOOD, "response_b": BAD, "verdict_code": 17},
    {"prompt": ASK, "x": GOOD, "yy": BAD},
    {"question": ASK, "response_A": GOOD, "response_B": BAD, "root_id_A": "a", "note": "b"},
    {"prompt": ASK, "responses": [GOOD, BAD], "ranking": [1, 2]},
    {"prompt": ASK, "responses": [GOOD, BAD], "chosen_idx": 0},
    {"prompt": ASK, "model_one_says": GOOD, "model_two_says": BAD, "score_gap": 2},
    {"prompt": [{"role": "user", "content": ASK}], "candidate_1": GOOD, "candidate_2": BAD},
    {"text": ASK, "reply_a": GOOD, "reply_b": BAD},
    {"question": ASK, "output_1": GOOD, "output_2": BAD, "choice": 1},
]


@pytest.mark.parametrize("row", UNDECIDED, ids=lambda row: "-".join(row))
def test_no_hint_where_nothing_says_which_answer_is_better(row: dict[str, Any], rows: Rows) -> None:
    with pytest.raises(DataError) as caught:
        read(rows(*many(row)))
    message = str(caught.value)
    assert not re.search(r"add `mapping", message)
    assert message.count("lacks") <= 3 and len(message) < 700


def test_a_rank_or_a_grade_is_never_offered_as_a_label(rows: Rows) -> None:
    for grade in ("rank", "rating", "score"):
        with pytest.raises(DataError, match=r"add `mapping: \{prompt: input\}`"):
            read(rows(*many({"input": ASK, "output": GOOD, grade: 0})))


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.kind == "prompt"])
def test_two_answers_are_never_hidden_in_a_list_of_prompts(name: str, rows: Rows) -> None:
    prompts = {
        "prompt-text": {"prompt": ASK},
        "prompt-chat": {"prompt": [{"role": "user", "content": ASK}]},
        "input-text": {"input": ASK},
        "input-chat": {"input": [{"role": "user", "content": ASK}]},
        "text": {"text": ASK},
        "messages": {"messages": [{"role": "user", "content": ASK}]},
        "turns": {"turns": [ASK]},
    }
    alone = many(prompts[name])
    assert read(rows(*alone), prompt_words=2).format == name
    with pytest.raises(DataError, match=r"which a list of prompts would ignore|no known format"):
        read(rows(*many({**prompts[name], "first_try": GOOD, "second_try": BAD})), prompt_words=2)
    forced = rows(*many({**prompts[name], "first_try": GOOD, "second_try": BAD}))
    assert read(forced, format=name, prompt_words=2).kind == "prompt"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK, "answer": "42", "data_source": "gsm8k", "reward_model": {"style": "rule"}},
        {"prompt": ASK, "source": "some web page", "category": "open qa", "difficulty": 3},
        {"prompt": ASK, "ground_truth": "4", "id": "x 1"},
        {"prompt": ASK, "prompt_id": "abc", "language": "English", "tokens": 12},
    ],
)
def test_prompts_with_metadata_stay_prompts(row: dict[str, Any], rows: Rows) -> None:
    constant = [row | {"prompt": f"{ASK} {n}"} for n in range(3)]
    assert read(rows(*constant)).kind == "prompt"


def test_a_judgement_beside_prompts_is_noted(rows: Rows) -> None:
    note = "columns that look like a judgement are not used: "
    assert f"{note}`preference`" in read(rows(*many({"prompt": ASK, "preference": 1}))).notes


@pytest.mark.parametrize("more", [{"winner": "rejected"}, {"label": 0}, {"chosen_prob": 0.4}])
def test_a_judgement_beside_a_pair_is_noted(more: dict[str, Any], rows: Rows) -> None:
    data = read(rows(*many({"prompt": ASK, "chosen": GOOD, "rejected": BAD, **more})))
    assert f"columns that look like a judgement are not used: `{next(iter(more))}`" in data.notes


def test_one_answer_that_is_named_as_the_worse_is_not_left_unread(rows: Rows) -> None:
    with pytest.raises(DataError, match="which a list of prompts would ignore"):
        read(rows(*many({"messages": TALK, "rejected_conversations": BAD})))


def test_a_question_beside_two_answers_is_not_replaced_by_their_common_words(rows: Rows) -> None:
    row = {"problem": "why is it so", "chosen": "It is so because of x", "rejected": "It is so because of y"}
    with pytest.raises(DataError, match="may hold the prompt"):
        read(rows(*many(row)))
    assert read(rows(*many(row)), format="pair-text-implicit").records[0].context == "It is so because of"
    repeated = [r | {s: f"{r['problem']} {r[s]}" for s in ("chosen", "rejected")} for r in many(row)]
    assert read(rows(*repeated)).format == "pair-text-implicit"


def test_columns_of_lists_are_told_from_rows(rows: Rows) -> None:
    with pytest.raises(DataError, match="some hold lists of strings: write one row for each element"):
        read(rows(*[{"prompt": ["a", "b"], "chosen": ["c", "d"], "rejected": ["e", "f"]}] * 2))


def test_words_partners_and_prose() -> None:
    assert words_of("response_0") == ["response", "0"] and words_of("humanRefA") == ["human", "ref", "a"]
    assert are_partners("a", "b") and are_partners("reply_1", "reply_2") and are_partners("outA", "outB")
    assert not are_partners("reply_1", "reply_3") and not are_partners("reply_a", "answer_b")
    assert (
        is_prose("three words here")
        and is_prose("天空是什么颜色呢请告诉我吧")
        and is_prose([{"role": "user"}])
    )
    assert not is_prose("gpt-4") and not is_prose(7) and not is_prose(["a", "b"]) and not is_prose(None)
