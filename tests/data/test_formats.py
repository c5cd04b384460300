"""Rows to records: each format's good rows, and each edge case with what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset, read
from equipoise.data.records import Message, oracle_context

Rows = Callable[..., Path]

GOOD = {"prompt": "Water boils at", "chosen": " 100 °C.", "rejected": " 40 °C."}


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def user(content: Any) -> dict[str, Any]:
    return turn("user", content)


def bot(content: Any) -> dict[str, Any]:
    return turn("assistant", content)


def only(data: Dataset) -> tuple[Any, list[str]]:
    """Context and answers of the first record, as an oracle sees them."""
    record = data.records[0]
    return oracle_context(record.context), [candidate.text for candidate in record.candidates]


def refusals(data: Dataset) -> dict[str, int]:
    return data.ledger.refused


# -- good rows ---------------------------------------------------------------------------------------------------

ACCEPTED = {
    "pair-text": (GOOD, "Water boils at", [" 100 °C.", " 40 °C."]),
    "pair-chat": (
        {"prompt": [user("Capital of Peru?")], "chosen": [bot("Lima.")], "rejected": [bot("Quito.")]},
        [user("Capital of Peru?")],
        ["Lima.", "Quito."],
    ),
    "pair-chat-implicit": (
        {"chosen": [user("Hi"), bot("Hello!")], "rejected": [user("Hi"), bot("What.")]},
        [user("Hi")],
        ["Hello!", "What."],
    ),
    "pair-chat-hybrid": (
        {"prompt": "Hi", "chosen": [user("Hi"), bot("Hello!")], "rejected": [user("Hi"), bot("What.")]},
        [user("Hi")],
        ["Hello!", "What."],
    ),
    "pair-text-implicit": (
        {"chosen": "Q: colour of grass?\nA: green", "rejected": "Q: colour of grass?\nA: grey"},
        "Q: colour of grass?\nA:",
        [" green", " grey"],
    ),
    "pair-transcript": (
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: What."},
        [user("Hi")],
        ["Hello!", "What."],
    ),
    "unpaired-text": ({"prompt": "2+2=", "completion": " 4", "label": True}, "2+2=", [" 4"]),
    "unpaired-chat": (
        {"prompt": [user("2+2?")], "completion": [bot("4")], "label": False},
        [user("2+2?")],
        ["4"],
    ),
    "unpaired-messages": ({"messages": [user("2+2?"), bot("4")], "label": True}, [user("2+2?")], ["4"]),
    "unpaired-conversations": (
        {
            "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}],
            "kto_tag": False,
        },
        [user("2+2?")],
        ["4"],
    ),
    "unpaired-alpaca": (
        {
            "instruction": "Translate to French",
            "input": "cat",
            "system": "Be brief",
            "history": [["dog", "chien"]],
            "output": "chat",
            "kto_tag": True,
        },
        [turn("system", "Be brief"), user("dog"), bot("chien"), user("Translate to French\ncat")],
        ["chat"],
    ),
    "unpaired-halos": (
        {"type": "binary_feedback", "prompt": "2+2=", "output": " 4", "label": 1, "reward": 0.7},
        "2+2=",
        [" 4"],
    ),
    "unpaired-halos-chat": (
        {"type": "binary_feedback", "prompt": [user("2+2?")], "output": "4", "label": 0},
        [user("2+2?")],
        ["4"],
    ),
    "prompt-text": ({"prompt": "Sing"}, "Sing", []),
    "prompt-chat": ({"prompt": [user("Sing")]}, [user("Sing")], []),
    "input-text": ({"input": "Sing", "label": "7", "datasource": "x"}, "Sing", []),
    "input-chat": ({"input": [user("Sing")]}, [user("Sing")], []),
    "messages": (
        {"messages": [user("a"), bot("b"), user("c"), bot("d")]},
        [user("a"), bot("b"), user("c")],
        [],
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_each_format_is_recognised_and_read(name: str, rows: Rows) -> None:
    row, context, answers = ACCEPTED[name]
    data = read(rows(row))
    assert data.format == name
    assert only(data) == (context, answers)
    assert (data.ledger.read, data.ledger.used) == (1, 1)


def test_the_normalised_shape_keeps_its_id_and_extras_unused(rows: Rows) -> None:
    row = {
        "id": "x-7",
        "prompt": [user("q")],
        "chosen": [bot("a")],
        "rejected": [bot("b")],
        "prob_chosen": 0.8,
    }
    (record,) = read(rows(row)).records
    assert (record.id, record.prob, dict(record.extra)) == ("x-7", 1.0, {"prob_chosen": 0.8})


def test_from_and_value_are_chat_and_tool_fields_are_kept(rows: Rows) -> None:
    call = {"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    row = {
        "prompt": [
            {"from": "human", "value": "add"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2", "name": "add", "score": None},
        ],
        "chosen": {"from": "gpt", "value": "two"},
        "rejected": {"from": "gpt", "value": "three"},
        "tools": '[{"name": "add", "default": null}]',
    }
    (record,) = read(rows(row)).records
    asked, called, answered = record.context
    assert asked == Message(role="user", content="add")
    assert called.extra["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert dict(answered.extra) == {"name": "add"}
    assert record.tools == ({"name": "add"},)


def test_content_parts_are_joined(rows: Rows) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert only(read(rows({"prompt": [user(parts)]})))[0] == [user("one two")]


def test_language_modelling_text_is_cut_after_whole_words(rows: Rows) -> None:
    data = read(rows({"text": " Once  upon\na time, there"}, {"text": "too short"}), prompt_words=4)
    assert data.records[0].context == " Once  upon\na time,"
    assert data.records[0].extra["continuation"] == " there"
    assert refusals(data) == {"fewer than 4 words": 1}
    assert any("first 4 whole words" in note for note in data.notes)


def test_language_modelling_text_without_prompt_words_says_what_to_add(rows: Rows) -> None:
    with pytest.raises(DataError, match="prompt_words: 8"):
        read(rows({"text": "Once upon a time"}))


def test_wrapped_strings_are_said_once(rows: Rows) -> None:
    data = read(
        rows(
            {"prompt": "Hi", "chosen": [bot("a")], "rejected": [bot("b")]},
            {"prompt": [user("Ho")], "chosen": "a", "rejected": "b"},
        )
    )
    assert [oracle_context(r.context) for r in data.records] == [[user("Hi")], [user("Ho")]]
    assert sum("string prompt wrapped as user turn" in note for note in data.notes) == 1
    assert sum("string answer wrapped as assistant turn" in note for note in data.notes) == 1


# -- the implicit text prompt --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky, A: green", "The sky, A: grey", "The sky, A:"),
        ("The answer is 1234", "The answer is 1299", "The answer is"),
        ("Say: yes please", "Say: yes", "Say:"),
        ("Say: x y", "Say: x\nz", "Say: x"),
        ("Say:  green", "Say:  grey", "Say:"),
        ("天空是什么颜色？蓝色", "天空是什么颜色？蓝天", "天空是什么颜色？"),
        ("问\n答蓝色", "问\n答红色", "问\n"),
        ("Do it\n### Response: the red", "Do it\n### Response: the blue", "Do it\n### Response:"),
        ("a b\n\nAssistant: I say a", "a b\n\nAssistant: I say b", "a b\n\nAssistant:"),
    ],
)
def test_the_implicit_prompt_ends_before_a_word_never_inside(
    chosen: str, rejected: str, prompt: str, rows: Rows
) -> None:
    data = read(rows({"chosen": chosen, "rejected": rejected}))
    assert only(data) == (prompt, [chosen[len(prompt) :], rejected[len(prompt) :]])
    assert any("KTO, SPPO and SFT" in note for note in data.notes)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("green", "grey", "no common prompt; give `prompt`"),
        ("Hello", "Hello world", "no common prompt; give `prompt`"),
        ("X ### Response: yes", "X ### Response:", "rejected adds nothing after the prompt"),
        ("X ### Response:  ", "X ### Response: no", "chosen adds nothing after the prompt"),
    ],
)
def test_an_implicit_prompt_that_cannot_be_found_is_refused(
    chosen: str, rejected: str, reason: str, rows: Rows
) -> None:
    good = {"chosen": "Q: a b", "rejected": "Q: a c"}
    assert refusals(read(rows(good, {"chosen": chosen, "rejected": rejected}))) == {reason: 1}


# -- rows that are refused -----------------------------------------------------------------------------------------

_CHAT = {"prompt": [user("q")], "chosen": [bot("a")], "rejected": [bot("b")]}
_WHOLE = {"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]}
_HH = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
_HYBRID = {"prompt": "q", **_WHOLE}
_UNPAIRED = {"prompt": "q", "completion": "a", "label": True}

REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (GOOD, {"chosen": ""}, "chosen is empty", ""),
    (GOOD, {"rejected": "  \n"}, "rejected is empty", ""),
    (GOOD, {"chosen": None}, "chosen is null", ""),
    (GOOD, {"prompt": ""}, "prompt is empty", ""),
    (GOOD, {"rejected": 7}, "rejected is not text", "int"),
    (GOOD, {"chosen": " 40 °C."}, "chosen equals rejected", ""),
    (GOOD, {"prompt": "NUL \x00"}, "invalid characters", "NUL"),
    (GOOD, {"prompt": "half \ud800 pair"}, "invalid characters", "U+D800"),
    (GOOD, {"prob": float("nan")}, "prob is not a finite number", "nan"),
    (GOOD, {"prob": 1.2}, "prob is outside [0, 1]", "1.2"),
    (GOOD, {"margin": "wide"}, "margin is not a number", "'wide'"),
    (GOOD, {"margin": True}, "margin is not a finite number", "True"),
    (GOOD, {"weight": -1}, "weight is negative", "-1"),
    (
        GOOD,
        {"images": ["a.png"], "prompt": "<image> what"},
        "only text is supported",
        "1 file(s), 1 placeholder(s)",
    ),
    (GOOD, {"tools": "[{"}, "broken JSON inside a field", "position 2"),
    (_CHAT, {"chosen": []}, "chosen is an empty list", ""),
    (_CHAT, {"chosen": None}, "chosen is null", ""),
    (_CHAT, {"chosen": [bot(" ")]}, "chosen is empty", ""),
    (_CHAT, {"chosen": [bot("a"), user("x")]}, "last turn is not the assistant's", "ends with user"),
    (_CHAT, {"chosen": [user("other"), bot("a")]}, "the answer repeats another prompt", "user"),
    (_CHAT, {"chosen": [user("q")]}, "chosen adds nothing after the prompt", ""),
    (_CHAT, {"chosen": [{"content": "a", "role": None}]}, "a message has no role", "chosen[0]"),
    (_CHAT, {"prompt": [user([{"type": "image"}])]}, "only text is supported", "prompt[0] holds image"),
    (
        _WHOLE,
        {"chosen": [turn("system", "s"), user("q"), bot("a")]},
        "the two sides answer different questions",
        "message 0: system in chosen, user in rejected",
    ),
    (
        _WHOLE,
        {"rejected": [user("other"), bot("a")]},
        "the two sides answer different questions",
        "message 0: user in chosen, user in rejected",
    ),
    (
        _WHOLE,
        {"rejected": [user("q")]},
        "one side adds nothing after the shared turns",
        "message 1: assistant in chosen, nothing in rejected",
    ),
    (_WHOLE, {"rejected": [user("q"), bot("a")]}, "chosen equals rejected", ""),
    (_WHOLE, {"chosen": [bot("a")], "rejected": [bot("b")]}, "no common prompt; give `prompt`", ""),
    (_HYBRID, {"prompt": "other"}, "the first user turn differs from `prompt`", "chosen"),
    (
        _HH,
        {"chosen": "\n\nHuman: x\n\nAssistant: a"},
        "the two transcripts differ before the last turn",
        "turn 0",
    ),
    (_HH, {"chosen": "\n\nHuman: q\n\nHuman: r\n\nAssistant: a"}, "turns do not alternate", "turn 1 is user"),
    (_HH, {"chosen": "\n\nHuman: q\n\nAssistant:"}, "empty turn", "turn 1"),
    (_HH, {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r"}, "last turn is not the assistant's", "user"),
    (_UNPAIRED, {"label": float("nan")}, "label is neither true nor false", "nan"),
    (_UNPAIRED, {"label": "maybe"}, "label is neither true nor false", "'maybe'"),
    (_UNPAIRED, {"label": None}, "label is neither true nor false", "None"),
    (_UNPAIRED, {"label": 0.5}, "label is neither true nor false", "0.5"),
    (_UNPAIRED, {"completion": ""}, "completion is empty", ""),
]


@pytest.mark.parametrize(("good", "change", "reason", "detail"), REFUSED, ids=lambda value: None)
def test_a_bad_row_is_refused_with_line_and_reason_and_strict_makes_it_fatal(
    good: dict[str, Any], change: dict[str, Any], reason: str, detail: str, rows: Rows
) -> None:
    path = rows(good, good | change)
    data = read(path)
    assert refusals(data) == {reason: 1}
    (shown,) = data.ledger.first_lines()[reason]
    assert shown.startswith("data.jsonl:2") and detail in shown
    with pytest.raises(DataError) as caught:
        read(path, strict=True)
    assert (caught.value.file, caught.value.line) == (str(path), 2)
    assert reason in caught.value.reason


def test_a_row_without_a_needed_column_is_refused_by_name(rows: Rows) -> None:
    data = read(rows(GOOD, {"prompt": "q", "rejected": "b"}))
    assert refusals(data) == {"no column `chosen`": 1}


def test_a_row_that_is_no_object_is_refused(rows: Rows) -> None:
    assert refusals(read(rows(GOOD, "[1, 2]"))) == {"row is not an object": 1}


def test_an_empty_rejected_answer_is_allowed_by_option_only(rows: Rows) -> None:
    path = rows(GOOD | {"rejected": ""})
    with pytest.raises(DataError, match="rejected is empty"):
        read(path)
    assert only(read(path, allow_empty_rejected=True))[1] == [" 100 °C.", ""]
    chat = rows(_CHAT | {"rejected": [bot("")]}, name="chat.jsonl")
    assert only(read(chat, allow_empty_rejected=True))[1] == ["a", ""]


# -- values that are mended or noted -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "True", "1", "chosen"])
@pytest.mark.parametrize("positive", [True, False])
def test_known_words_for_labels_are_mapped(value: Any, positive: bool, rows: Rows) -> None:
    opposite = {"true": "false", "True": "False", "1": "0", "chosen": "rejected"}
    label = value if positive else (opposite[value] if isinstance(value, str) else type(value)(0))
    data = read(rows(_UNPAIRED | {"label": label}))
    assert data.records[0].desirable is positive
    assert any("all labels are equal" in note for note in data.notes)


def test_numeric_strings_are_converted_and_counted(rows: Rows) -> None:
    data = read(rows(GOOD | {"margin": "0.5", "prob": "0.75", "weight": 2}))
    record = data.records[0]
    assert (record.margin, record.prob, record.weight) == (0.5, 0.75, 2.0)
    assert sum(data.ledger.repaired.values()) == 2


def test_duplicates_are_counted_and_contradictions_are_kept_and_reported(rows: Rows) -> None:
    turned = {"prompt": GOOD["prompt"], "chosen": GOOD["rejected"], "rejected": GOOD["chosen"]}
    data = read(rows(GOOD, GOOD | {"id": "again"}, turned))
    assert (data.ledger.read, data.ledger.used, data.ledger.duplicate) == (3, 2, 1)
    assert any("1 rows contradict" in note and "data.jsonl:3" in note for note in data.notes)


@pytest.mark.parametrize(
    "row",
    [
        GOOD | {"prob": 0.75, "weight": 2.0, "margin": 1.5, "rationale": "shorter", "meta": {"a": 1}},
        _CHAT | {"tools": [{"name": "f"}], "chat_template_kwargs": {"thinking": False}},
        _UNPAIRED,
        _UNPAIRED | {"prompt": [user("q")], "completion": [bot("a")], "label": False},
        {"prompt": "q", "responses": ["a", "b"], "rewards": [0.5, 1.0]},
        {"prompt": "q"},
    ],
)
def test_a_record_written_as_a_row_is_read_as_the_same_record(rows: Rows, row: dict[str, Any]) -> None:
    (record,) = read(rows(row)).records
    (again,) = read(rows(record.as_row())).records
    assert again.identity() == record.identity() and again.kind == record.kind
    assert again.id == record.id and again.extra == record.extra


def test_opposite_labels_of_the_same_answer_are_reported(rows: Rows) -> None:
    data = read(rows(_UNPAIRED, _UNPAIRED | {"label": False}, _UNPAIRED | {"completion": "b"}))
    assert any("1 rows contradict" in note for note in data.notes)


def test_template_kwargs_and_groups(rows: Rows) -> None:
    data = read(
        rows(_CHAT | {"chat_template_kwargs": '{"thinking": false}'}, _CHAT | {"rejected": [bot("other")]})
    )
    first, second = data.records
    assert first.template_kwargs == {"thinking": False}
    assert first.group == second.group and first.identity() != second.identity()


# -- labels of single answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ACCEPTED if name.startswith("unpaired")])
def test_every_known_label_is_mapped_exactly_and_any_other_refused_with_value_and_line(
    name: str, rows: Rows
) -> None:
    row = ACCEPTED[name][0]
    column = "kto_tag" if "kto_tag" in row else "label"
    known = [(True, True), (False, False), (1, True), (0, False), ("true", True), ("False", False)]
    known += [("chosen", True), ("rejected", False)]
    others = [2, -1, 0.5, "yes", "", None, [True]]
    written = [row | {column: value} for value in [*(value for value, _ in known), *others]]
    data = read(rows(*[_with_answer(row, str(i)) for i, row in enumerate(written)]))
    assert [record.desirable for record in data.records] == [label for _, label in known]
    reason = "label is neither true nor false"
    assert refusals(data) == {reason: len(others)}
    assert data.ledger.first_lines()[reason][0] == f"data.jsonl:{len(known) + 1} (2)"


def _with_answer(row: dict[str, Any], mark: str) -> dict[str, Any]:
    """The row with another answer, so that it is no duplicate."""
    for column in ("completion", "output"):
        if column in row:
            old = row[column]
            return row | {column: old + mark if isinstance(old, str) else [bot(old[0]["content"] + mark)]}
    column = "messages" if "messages" in row else "conversations"
    *before, last = row[column]
    key = "content" if "content" in last else "value"
    return row | {column: [*before, last | {key: last[key] + mark}]}


def test_labels_are_counted_and_equal_ones_are_accepted_with_a_warning(rows: Rows) -> None:
    written = [{"prompt": "2+2=", "completion": f" {n}", "label": True} for n in range(3)]
    data = read(rows(*written))
    assert len(data) == 3
    assert "labels: 3 desirable, 0 undesirable" in data.notes
    assert any("all labels are equal" in note for note in data.notes)


def test_a_conversation_that_ends_with_the_user_is_refused(rows: Rows) -> None:
    good = {"messages": [user("2+2?"), bot("4")], "label": True}
    bad = {"messages": [user("2+2?"), bot("4"), user("sure?")], "label": True}
    alone = {"messages": [bot("4")], "label": True}
    data = read(rows(good, bad, alone))
    assert refusals(data) == {"last turn is not the assistant's": 1, "no turn to answer": 1}


def test_halos_rows_of_another_type_are_refused(rows: Rows) -> None:
    good = ACCEPTED["unpaired-halos"][0]
    data = read(rows(good, good | {"type": "pairwise_feedback", "output": " 5"}))
    assert refusals(data) == {"type is not binary_feedback": 1}
