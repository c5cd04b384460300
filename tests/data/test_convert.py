"""Conversion: what is written is read as the same records, and what a layout cannot hold is counted."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.data.convert import LAYOUTS, Account, convert, dataset_info
from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset, read
from equipoise.data.records import Candidate, Message, Record
from equipoise.data.sample import sample
from equipoise.safe_text import is_blank

Row = dict[str, Any]

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12).filter(
    lambda text: not is_blank(text) and "Human:" not in text and "Assistant:" not in text
)
probs = st.sampled_from([1.0, 0.0, 0.7, 0.25])
numbers = st.floats(-5, 5, allow_nan=False)


def turn(role: str, content: str) -> Row:
    return {"role": role, "content": content}


@st.composite
def contexts(draw: Any, chat: bool) -> Any:
    if not chat:
        return draw(texts)
    turns = [turn("system", draw(texts))] if draw(st.booleans()) else []
    return [*turns, turn("user", draw(texts)), turn("assistant", draw(texts)), turn("user", draw(texts))]


@st.composite
def rows(draw: Any, kind: str, chat: bool) -> Row:
    def answer(text: str) -> Any:
        return [turn("assistant", text)] if chat else text

    row: Row = {"prompt": draw(contexts(chat))}
    if kind == "pair":
        a, b = draw(st.lists(texts, min_size=2, max_size=2, unique=True))
        row |= {"chosen": answer(a), "rejected": answer(b), "prob": draw(probs)}
        row |= draw(st.sampled_from([{}, {"margin": 1.5}, {"weight": 2.0}, {"rationale": "since"}]))
    elif kind == "unpaired":
        row |= {"completion": answer(draw(texts)), "label": draw(st.booleans())}
    elif kind == "demonstration":
        row |= {"completion": answer(draw(texts))}
    elif kind == "scores":
        answers = draw(st.lists(texts, min_size=2, max_size=4, unique=True))
        row |= {"responses": list(map(answer, answers)), "rewards": [draw(numbers) for _ in answers]}
    elif kind == "rank":
        answers = draw(st.lists(texts, min_size=2, max_size=4, unique=True))
        items = [{"completion": answer(text), "rank": place} for place, text in enumerate(answers)]
        row = {"context": row["prompt"], "completions": items}
    return row


@st.composite
def datasets(draw: Any, kind: str, chat: bool) -> Dataset:
    return written(draw(st.lists(rows(kind, chat), min_size=1, max_size=4)))


def written(content: list[Row], **options: Any) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "d.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        return read(file, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pair", "unpaired", "demonstration", "prompt", "scores", "rank"])
@pytest.mark.parametrize("chat", [False, True])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_json_lines_are_read_as_the_same_records(kind: str, chat: bool, data: st.DataObject) -> None:
    dataset = data.draw(datasets(kind, chat or kind == "rank"))
    account = Account()
    again = written(list(convert(dataset, "jsonl", account)))
    assert (again.kind, again.space, account.written) == (dataset.kind, dataset.space, len(dataset))
    assert [r.identity() for r in again.records] == [r.identity() for r in dataset.records]
    assert [r.id for r in again.records] == [r.id for r in dataset.records]
    assert not account.left_out and not account.lost


@pytest.mark.parametrize("kind", ["pair", "unpaired", "demonstration", "prompt"])
@pytest.mark.parametrize("chat", [False, True])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_trl_is_read_as_the_same_records_with_the_likelier_answer_chosen(
    kind: str, chat: bool, data: st.DataObject
) -> None:
    dataset = data.draw(datasets(kind, chat))
    account = Account()
    again = written(list(convert(dataset, "trl", account)))
    assert again.kind == kind
    expected = list(dict.fromkeys(held(record).identity() for record in dataset.records))
    assert [record.identity() for record in again.records] == expected
    assert account.written == len(expected)
    assert account.left_out.total() == len(dataset) - len(
        expected
    )  # equal without prob, weight and rationale


def held(record: Record) -> Record:
    """What TRL's columns hold of a record, by hand."""
    chosen = record.candidates if record.prob > 0.5 or record.kind != "pair" else record.candidates[::-1]
    return Record(
        context=record.context,
        candidates=tuple(Candidate(content=c.content) for c in chosen),
        kind=record.kind,
        margin=record.margin,
        desirable=record.desirable,
    )


# layouts of chat turns, the kinds they hold, and a format that reads each back
CHAT_LAYOUTS = [
    ("openai", "pair", "pair-openai"),
    ("llama-factory", "pair", "pair-question"),
    ("llama-factory", "unpaired", "unpaired-conversations"),
    ("llama-factory", "demonstration", "demonstration-alpaca"),
]


@pytest.mark.parametrize(("target", "kind", "format"), CHAT_LAYOUTS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_layouts_of_chat_turns_are_read_as_the_same_records(
    target: Any, kind: str, format: str, data: st.DataObject
) -> None:
    dataset = data.draw(datasets(kind, chat=True))
    account = Account()
    again = written(list(convert(dataset, target, account)))
    expected = [replace(held(record), margin=None).identity() for record in dataset.records]
    assert again.kind == kind and again.format == format
    assert [record.identity() for record in again.records] == list(dict.fromkeys(expected))


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CHAT = {
    "prompt": [turn("system", "be kind"), turn("user", "2+2?")],
    "chosen": [turn("assistant", "4")],
    "rejected": [turn("assistant", "5")],
    "tools": [TOOL],
}


def test_openai_rows_are_as_their_guide_says() -> None:
    called = CHAT | {"chosen": [turn("assistant", "") | {"tool_calls": [CALL]}], "prob": 0.0}
    first, second = convert(written([CHAT, called]), "openai", Account())
    assert first == {
        "input": {"messages": CHAT["prompt"], "tools": [TOOL]},
        "preferred_output": [turn("assistant", "4")],
        "non_preferred_output": [turn("assistant", "5")],
    }
    assert second["preferred_output"] == [turn("assistant", "5")]
    (message,) = second["non_preferred_output"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_llama_factory_rows_are_sharegpt() -> None:
    called = CHAT | {"chosen": [turn("assistant", "") | {"tool_calls": [CALL]}]}
    first, second = convert(written([CHAT, called]), "llama-factory", Account())
    assert first | {"id": ""} == {
        "conversations": [{"from": "system", "value": "be kind"}, {"from": "human", "value": "2+2?"}],
        "chosen": {"from": "gpt", "value": "4"},
        "rejected": {"from": "gpt", "value": "5"},
        "tools": json.dumps([TOOL]),
        "id": "",
    }
    assert second["chosen"]["from"] == "function_call"
    assert json.loads(second["chosen"]["value"]) == {"name": "add", "arguments": {"a": 1}}
    unpaired = {"prompt": [turn("user", "q")], "completion": [turn("assistant", "a")], "label": False}
    (row,) = convert(written([unpaired]), "llama-factory", Account())
    assert row["conversations"][-1] == {"from": "gpt", "value": "a"} and row["kto_tag"] is False
    again = written([row])
    assert (again.kind, again.records[0].desirable) == ("unpaired", False)
    assert dataset_info("unpaired", "f.jsonl")["columns"]["kto_tag"] == "kto_tag"


def test_rows_that_differ_only_in_what_is_lost_are_written_once() -> None:
    account = Account()
    assert len(list(convert(written([CHAT | {"prob": 0.8}, CHAT | {"prob": 0.9}]), "trl", account))) == 1
    assert account.left_out == {"equal to an earlier row in this layout": 1}


def test_what_a_layout_cannot_hold_is_counted() -> None:
    ties = CHAT | {"prob": 0.5}
    heavy = CHAT | {"weight": 3, "rationale": "since", "source": "x", "prob": 0.8}
    account = Account()
    assert len(list(convert(written([ties, heavy]), "trl", account))) == 1
    assert account.left_out == {"a tie has no chosen answer": 1}
    assert account.lost == {"prob": 1, "weight": 1, "rationale": 1, "other columns": 1}
    assert account.sentences()[:2] == ["1 rows written", "1 rows left out: a tie has no chosen answer"]


def test_llama_factory_refuses_turns_that_it_cannot_hold() -> None:
    odd = [
        CHAT | {"prompt": [turn("user", "q") | {"name": "Ann"}]},
        CHAT | {"chosen": [turn("assistant", "both") | {"tool_calls": [CALL]}]},
    ]
    dataset = written(odd)
    narrated = replace(dataset.records[0], context=(Message(role="narrator", content="x"),))
    account = Account()
    assert list(convert(dataset.with_records([*dataset.records, narrated]), "llama-factory", account)) == []
    assert account.left_out.total() == 3 and len(account.left_out) == 3


def test_llama_factory_demonstrations_are_alpaca_columns() -> None:
    context = [turn("system", "be kind"), turn("user", "a"), turn("assistant", "b"), turn("user", "c")]
    demonstration = {"prompt": context, "completion": [turn("assistant", "d")]}
    begun = {
        "prompt": [turn("assistant", "hello"), turn("user", "c")],
        "completion": [turn("assistant", "d")],
    }
    account = Account()
    (row,) = convert(written([demonstration, begun]), "llama-factory", account)
    assert row == {
        "instruction": "c",
        "output": "d",
        "system": "be kind",
        "history": [["a", "b"]],
        "id": "d.jsonl:1",
    }
    assert account.left_out == {"a conversation that Alpaca's columns do not hold": 1}
    assert dataset_info("demonstration", "f.jsonl")["formatting"] == "alpaca"


def test_ids_of_tool_calls_that_are_not_written_are_counted() -> None:
    called = CHAT | {"chosen": [turn("assistant", "") | {"tool_calls": [CALL]}]}
    account = Account()
    assert len(list(convert(written([called]), "llama-factory", account))) == 1
    assert account.lost == {"ids of tool calls": 1}


@pytest.mark.parametrize(
    ("row", "target", "says"),
    [
        ({"prompt": "q", "responses": ["a", "b"], "rewards": [1, 2]}, "trl", "no rows of kind scores"),
        ({"prompt": "q"}, "openai", "no rows of kind prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "openai", "plain strings"),
        ({"prompt": "q", "completion": "a"}, "llama-factory", "plain strings"),
    ],
)
def test_data_that_a_layout_cannot_hold_at_all_are_refused(row: Row, target: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        convert(written([row]), target, Account())
    assert caught.value.hint


def test_every_layout_says_what_it_holds() -> None:
    assert LAYOUTS["jsonl"].kinds == {"pair", "unpaired", "demonstration", "prompt", "rank", "scores"}


def test_a_sample_depends_on_the_seed_and_not_on_the_order() -> None:
    content = [{"prompt": f"q{i // 2}", "completion": f"a{i}"} for i in range(40)]
    records = written(content).records
    drawn = sample(records, 7, seed=1)
    assert len(drawn) == 7 and [r for r in records if r in drawn] == drawn
    assert {r.identity() for r in sample(records[::-1], 7, seed=1)} == {r.identity() for r in drawn}
    assert sample(records, 7, seed=2) != drawn
    by_prompt = sample(records, 3, seed=1, by="prompt")
    assert len(by_prompt) == 6 and len({r.group for r in by_prompt}) == 3
    assert sample(records, 100) == list(records)
    with pytest.raises(DataError, match="at least one row"):
        sample(records, 0)
