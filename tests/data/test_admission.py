"""Admission: duplicates are left out; near-duplicates, contradictions, ties and weights are remarked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.reading.read import read, scan
from equipoise.data.reading.seen import Seen

Rows = Callable[..., Path]
GOOD = {"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40), max_size=3000))
def test_a_table_of_hashes_is_a_dict(keys: list[int]) -> None:
    seen, known = Seen(numbers=True), {}
    keys = [key or 1 for key in keys]  # 0 and 1 are the same hash
    for number, key in enumerate(keys):
        assert seen.add(key, number) == (key not in known)
        known.setdefault(key, number)
    assert len(seen) == len(known)
    assert all(key in seen and seen.number(key) == number for key, number in known.items())


def test_remarks_count_what_is_odd_about_used_rows(rows: Rows) -> None:
    path = rows(
        GOOD,
        GOOD | {"chosen": " 4 "},
        GOOD | {"prompt": "2+2= "},
        {"prompt": "2+2=", "chosen": " 5", "rejected": " 4"},
        GOOD | {"prob": 0.5, "prompt": "t"},
        GOOD | {"weight": 0, "prompt": "w"},
        GOOD,
    )
    ledger = read(path).ledger
    assert ledger.duplicate == 1
    assert ledger.remarks == {
        "weight 0": 1,
        "label is a tie": 1,
        "contradicts an earlier label": 1,
        "differs from an earlier row in white space or case only": 2,
    }
    shown = ledger.first_lines()
    assert shown["contradicts an earlier label"] == ["data.jsonl:4"]
    assert shown["weight 0"] == ["data.jsonl:6"] and shown["label is a tie"] == ["data.jsonl:5"]


def test_a_list_whose_scores_are_all_equal_is_remarked(rows: Rows) -> None:
    listed = {"prompt": "q", "responses": ["a", "b"]}
    ledger = read(rows(listed | {"rewards": [1, 1]}, listed | {"rewards": [1, 2]})).ledger
    assert ledger.remarks["equal scores"] == 1 and ledger.first_lines()["equal scores"] == ["data.jsonl:1"]


def test_the_same_preference_twice_is_no_contradiction_however_it_is_written(rows: Rows) -> None:
    turned = {"prompt": "2+2=", "chosen": " 5", "rejected": " 4", "prob": 0.1}
    assert "contradicts an earlier label" not in read(rows(GOOD, turned)).ledger.remarks
    assert read(rows(GOOD, turned | {"prob": 0.9})).ledger.remarks["contradicts an earlier label"] == 1
    listed = {"prompt": "q", "responses": ["a", "b"], "rewards": [1, 2]}
    again = listed | {"responses": ["b", "a"], "rewards": [2, 1]}
    assert "contradicts an earlier label" not in read(rows(listed, again)).ledger.remarks


def test_thumbs_contradict_when_the_same_answer_has_both(rows: Rows) -> None:
    up = {"prompt": "q", "completion": "a", "label": True}
    data = read(rows(up, up | {"label": False}, up | {"prompt": "r", "label": False}))
    assert data.ledger.remarks["contradicts an earlier label"] == 1
    assert "labels: 1 desirable, 2 undesirable" in data.notes


def test_weights_that_leave_nothing_or_are_all_one_rows_are_noted(rows: Rows) -> None:
    none = read(rows(*(GOOD | {"prompt": f"q{i}", "weight": 0} for i in range(3))))
    assert none.ledger.remarks["weight 0"] == 3 and any("nothing to train on" in note for note in none.notes)
    heavy = read(rows(*(GOOD | {"prompt": f"q{i}", "weight": 100 if i == 2 else 1} for i in range(5))))
    assert "one row has 96% of all weight: data.jsonl:3" in heavy.notes


def test_a_scan_says_what_reading_says_and_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(
        "".join(json.dumps(GOOD | {"prompt": f"q{i % 7}", "margin": i % 3}) + "\n" for i in range(60))
    )
    stream, data = scan(path, limit=50), read(path, limit=50)
    assert (stream.format, stream.space, stream.kind) == (data.format, data.space, data.kind)
    assert stream.ledger.read == 0  # nothing is read before the first record is asked for
    assert list(stream) == list(data.records)
    assert stream.ledger.as_json() == data.ledger.as_json()
    assert any("limit 50" in note for note in data.notes)
