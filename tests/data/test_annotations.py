"""Annotators and attributes: read from every format, written back, split by annotator, counted, and in the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from equipoise.cli.app import app
from equipoise.data.collate import Prompt, Response
from equipoise.data.convert import Account, convert
from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset, read
from equipoise.data.rendering.render import Rendered
from equipoise.data.split import split
from equipoise.play.rows import Rows, objects
from equipoise.report.data_check.check import check
from equipoise.report.data_check.tables import sentences, sheets
from equipoise.worlds.text.folder.row_files import load_rows, save_rows
from equipoise.worlds.text.recorded_rows import annotated

Row = dict[str, Any]


def made(folder: Path, *rows: Row) -> Dataset:
    file = folder / "d.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(file)


PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}
SCORED = [{"honesty": 4.0}, {"honesty": 1.0}]
TURNS = [{"role": "user", "content": "p"}]


def say(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (PAIR | {"response_attributes": SCORED}, {"a": {"honesty": 4.0}, "b": {"honesty": 1.0}}),
        (PAIR | {"attributes": SCORED}, {"a": {"honesty": 4.0}, "b": {"honesty": 1.0}}),
        (
            PAIR | {"attributes_chosen": {"tone": "dry"}, "attributes_rejected": {}},
            {"a": {"tone": "dry"}, "b": {}},
        ),
        # the second answer wins, and keeps what was measured of it
        (
            {"prompt": "p", "response_a": "b", "response_b": "a", "winner": "b", "attributes": SCORED[::-1]},
            {"a": {"honesty": 4.0}, "b": {"honesty": 1.0}},
        ),
        (
            {
                "prompt": "p",
                "response_0": "b",
                "response_1": "a",
                "better_response_id": 1,
                "is_response_0_safe": False,
                "is_response_1_safe": True,
                "response_0_severity_level": 3,
            },
            {"a": {"safe": 1.0}, "b": {"safe": 0.0, "severity_level": 3.0}},
        ),
        (
            {"prompt": "p", "responses": ["a", "b"], "rewards": [1, 0], "response_attributes": SCORED},
            {"a": {"honesty": 4.0}, "b": {"honesty": 1.0}},
        ),
        (
            {
                "instruction": "p",
                "completions": [
                    {
                        "response": text,
                        "annotations": {"honesty": {"Rating": rating}, "truth": {"Rating": "2"}},
                    }
                    for text, rating in (("a", "4"), ("b", "1"))
                ],
            },
            {"a": {"honesty": 4.0, "truth": 2.0}, "b": {"honesty": 1.0, "truth": 2.0}},
        ),
        (
            {"prompt": "p", "completion": "a", "label": True, "attributes": [{"length": 3}]},
            {"a": {"length": 3.0}},
        ),
        ({"prompt": "p", "completion": "a", "response_attributes": [{"length": 3}]}, {"a": {"length": 3.0}}),
        (
            {
                "context": TURNS,
                "completions": [{"completion": say(t), "rank": k} for k, t in enumerate("ab")],
                "response_attributes": SCORED,
            },
            {"a": {"honesty": 4.0}, "b": {"honesty": 1.0}},
        ),
    ],
)
def test_attributes_of_answers_stay_with_them(tmp_path: Path, row: Row, expected: Mapping[str, Any]) -> None:
    record = made(tmp_path, row).records[0]
    assert {candidate.text: dict(candidate.attributes) for candidate in record.candidates} == expected


def test_ratings_of_single_answers_are_attributes(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "response": t, "helpfulness": h, "verbosity": v}
        for t, h, v in (("a", 4, 1), ("b", 2, 3))
    ]
    record = made(tmp_path, *rows).records[0]
    assert [dict(c.attributes) for c in record.candidates] == [
        {"helpfulness": 4.0, "verbosity": 1.0},
        {"helpfulness": 2.0, "verbosity": 3.0},
    ]


@pytest.mark.parametrize(
    ("columns", "user"),
    [
        ({"user_id": "u1"}, "u1"),
        ({"annotator_id": 7}, "7"),
        ({"worker": 7.0}, "7"),
        ({"judge": "arena_user_12"}, "arena_user_12"),
        ({"user": "What is the tallest tower?"}, ""),  # a question, which is no id
        ({"annotator": ["gpt-4", "pair"]}, ""),
        ({"user_id": None, "rater": "r"}, "r"),
        ({}, ""),
    ],
)
def test_annotators(tmp_path: Path, columns: Row, user: str) -> None:
    assert made(tmp_path, PAIR | columns).records[0].user == user


def test_two_annotators_of_one_pair_are_two_rows_and_no_contradiction(tmp_path: Path) -> None:
    other = {"prompt": "p", "chosen": "b", "rejected": "a"}
    dataset = made(tmp_path, PAIR | {"user_id": "u"}, PAIR | {"user_id": "v"}, other | {"user_id": "w"})
    assert [record.user for record in dataset.records] == ["u", "v", "w"]
    assert not any("contradict" in note for note in dataset.notes)
    assert any(
        "contradict" in n for n in made(tmp_path, PAIR | {"user_id": "u"}, other | {"user_id": "u"}).notes
    )


def test_another_number_of_attributes_is_refused_and_odd_ones_are_noted(tmp_path: Path) -> None:
    dataset = made(tmp_path, PAIR, PAIR | {"prompt": "q", "response_attributes": SCORED[:1]})
    assert dataset.ledger.refused == {"2 answers with 1 response_attributes": 1}
    odd = made(tmp_path, PAIR | {"attributes": {"deep": {"er": 1}}})
    assert odd.records[0].attributes == {} and odd.records[0].extra["attributes"] == {"deep": {"er": 1}}
    assert any("`attributes` is not an object of numbers and texts" in note for note in odd.notes)


def test_json_lines_keep_annotators_and_attributes_and_others_count_them(tmp_path: Path) -> None:
    row = PAIR | {
        "user_id": "u",
        "attributes": {"length": 3.0, "topic": "tea"},
        "response_attributes": SCORED,
    }
    dataset = made(tmp_path, row)
    again = made(tmp_path, *convert(dataset, "jsonl", Account())).records[0]
    assert (again.user, again.attributes, [c.attributes for c in again.candidates]) == (
        "u",
        {"length": 3.0, "topic": "tea"},
        SCORED,
    )
    account = Account()
    list(convert(dataset, "trl", account))
    assert account.lost == {"user": 1, "attributes": 1}


def test_a_split_by_annotator_shares_none(tmp_path: Path) -> None:
    rows = [PAIR | {"prompt": f"p{k}", "user_id": f"u{k % 5}"} for k in range(20)]
    train, held = split(made(tmp_path, *rows).records, 0.4, 0, "user")
    assert {r.user for r in train} | {r.user for r in held} == {f"u{k}" for k in range(5)}
    assert not {r.user for r in train} & {r.user for r in held} and len({r.user for r in held}) == 2
    with pytest.raises(DataError, match=r"d.jsonl:1: this row names no annotator"):
        split(made(tmp_path, PAIR, PAIR | {"user_id": "u", "prompt": "q"}).records, 0.5, 0, "user")


def test_the_command_splits_by_annotator(tmp_path: Path) -> None:
    made(tmp_path, *(PAIR | {"prompt": f"p{k}", "user_id": f"u{k % 2}"} for k in range(8)))
    outs = [tmp_path / "t.jsonl", tmp_path / "h.jsonl"]
    command = [
        "data",
        "split",
        str(tmp_path / "d.jsonl"),
        "--out-train",
        str(outs[0]),
        "--out-held-out",
        str(outs[1]),
    ]
    result = CliRunner().invoke(app, [*command, "--by", "user", "--fraction", "0.5"])
    assert result.exit_code == 0, result.output
    users = [{json.loads(line)["user_id"] for line in out.read_text().splitlines()} for out in outs]
    assert users[0] != users[1] and all(len(found) == 1 for found in users)


def test_the_data_check_counts_annotators_and_attributes(tmp_path: Path) -> None:
    made(
        tmp_path,
        *(
            PAIR | {"prompt": f"p{k}", "user_id": "u" if k else "v", "response_attributes": SCORED}
            for k in range(4)
        ),
        PAIR | {"prompt": "q", "attributes": {"topic": "tea"}},
    )
    report = check(tmp_path / "d.jsonl")
    found = report.figures["annotations"]
    assert found["rows_per_user"] == {"u": 3, "v": 1} and found["rows_without_user"] == 1
    assert found["categories"] == {"topic": {"tea": 1}} and found["attributes"]["honesty"]["max"] == 4
    assert any(
        s.startswith("annotators: 2; rows of one: 1 to 3, median 2; 1 rows") for s in sentences(report)
    )
    assert {"Annotators", "Attributes", "Attribute topic"} <= {sheet.title for sheet in sheets(report)}


def test_rows_hold_annotators_and_attributes_and_stages_keep_them(tmp_path: Path) -> None:
    dataset = made(
        tmp_path,
        PAIR | {"user_id": "u", "response_attributes": SCORED, "attributes": {"topic": "tea"}},
        PAIR | {"prompt": "q"},
    )
    answers = (Response((2,), "a"), Response((3,), "b"))
    items = [Rendered(record=record, prompt_ids=(1,), responses=answers) for record in dataset.records]
    plain = Rows(
        prompts=objects([Prompt((1,), "p", "p"), Prompt((1,), "q", "q")]),
        responses=objects([list(answers)] * 2, width=2),
        weight=np.ones(2),
        writers=("recorded", "recorded"),
        prob=np.ones(2),
    )
    rows = annotated(plain, items)
    assert rows.users.tolist() == ["u", ""]
    np.testing.assert_equal(rows.attributes["honesty"], [[4.0, 1.0], [np.nan, np.nan]])
    assert rows.attributes["topic"].tolist() == [["tea", "tea"], ["", ""]]
    swapped = rows.columns([np.array([1, 1]), np.array([0, 0])])
    np.testing.assert_equal(swapped.attributes["honesty"][0], [1.0, 4.0])
    longer = rows.append(rows.responses[:, :1], "start")
    assert np.isnan(longer.attributes["honesty"][:, 2]).all() and longer.attributes["topic"][0, 2] == ""
    save_rows(tmp_path / "stage.parquet", rows)
    again = load_rows(tmp_path / "stage.parquet")
    assert again.users.tolist() == ["u", ""]
    np.testing.assert_equal(again.attributes["honesty"], rows.attributes["honesty"])
    assert again.attributes["topic"].tolist() == rows.attributes["topic"].tolist()
    assert Rows.join([again, again]).users.tolist() == ["u", "", "u", ""]
