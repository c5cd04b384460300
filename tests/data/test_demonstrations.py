"""Demonstrations out of every kind of record: what is imitated, and what the ledger says of it."""

from __future__ import annotations

import json

import pytest

from equipoise.data.demonstrations import as_demonstrations
from equipoise.data.errors import DataError
from equipoise.data.reading.read import read


def dataset(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read(path)


def answers(data):
    return [record.candidates[0].text for record in data.records]


@pytest.mark.parametrize(
    "rows, format, wanted",
    [
        ([{"prompt": "a", "completion": "b"}], "demonstration-text", ["b"]),
        (
            [{"prompt": [{"role": "user", "content": "a"}], "completion": "b"}],
            "demonstration-chat",
            ["b"],
        ),
        ([{"instruction": "a", "input": "x", "output": "b"}], "demonstration-alpaca", ["b"]),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}], "pair-text", ["b"]),
        (
            [
                {"prompt": "a", "completion": "b", "label": True},
                {"prompt": "a", "completion": "c", "label": False},
            ],
            "unpaired-text",
            ["b"],
        ),
    ],
)
def test_what_is_imitated(tmp_path, rows, format, wanted):
    data = dataset(tmp_path, *rows)
    assert data.format == format
    made = as_demonstrations(data)
    assert answers(made) == wanted and made.kind == "demonstration"
    assert {record.kind for record in made.records} == {"demonstration"}


def conversation(*contents):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]}


def test_a_conversation_gives_one_demonstration_for_each_assistant_turn(tmp_path):
    data = dataset(tmp_path, conversation("q1", "a1", "q2", "a2", "q3", "a3"))
    every, last = as_demonstrations(data), as_demonstrations(data, "last")
    assert answers(every) == ["a1", "a2", "a3"] and answers(last) == ["a3"]
    assert [len(record.context) for record in every.records] == [1, 3, 5]
    assert len({record.group for record in every.records}) == 1, "a split keeps a conversation together"
    assert "1 rows give 3 demonstrations" in every.notes


def test_the_same_answer_is_imitated_once(tmp_path):
    pairs = [{"prompt": "a", "chosen": "b", "rejected": other} for other in "cd"]
    made = as_demonstrations(dataset(tmp_path, *pairs))
    assert answers(made) == ["b"] and "1 repeat another" in made.notes[-1]


def test_nothing_to_imitate_is_said(tmp_path):
    with pytest.raises(DataError, match="no row has an answer to imitate"):
        as_demonstrations(dataset(tmp_path, {"prompt": "a"}, {"prompt": "b"}))


def test_written_rows_are_read_again(tmp_path):
    data = as_demonstrations(dataset(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c"}))
    again = dataset(tmp_path, *[record.as_row() for record in data.records])
    assert again.kind == "demonstration" and answers(again) == ["b"]
