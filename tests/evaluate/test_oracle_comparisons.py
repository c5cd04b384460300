"""Comparisons of every layout: what is asked, what is left out, and that it adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.data.errors import DataError
from equipoise.data.reading.read import read
from equipoise.evaluate.oracle_check import comparisons_of


def rows(folder: Path, *content: dict) -> list[Path]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return [file]


def test_pairs_keep_their_label_and_a_tie_stays_one(tmp_path: Path):
    found = comparisons_of(
        read(
            rows(
                tmp_path,
                {
                    "prompt": "x",
                    "chosen": "a",
                    "rejected": "b",
                    "prob": 0.7,
                    "chosen_by": "m",
                    "rejected_by": "n",
                },
                {
                    "prompt": "x",
                    "chosen": "a",
                    "rejected": "c",
                    "prob": 0.5,
                    "chosen_by": "m",
                    "rejected_by": "o",
                },
            )
        ),
        writers=("chosen_by", "rejected_by"),
    )
    assert found.questions() == (["x", "x"], ["a", "a"], ["b", "c"])
    assert found.label.tolist() == [0.7, 0.5]
    assert [row.writers for row in found.rows] == [("m", "n"), ("m", "o")]
    assert len(set(found.groups)) == 1 and found.rows[1].at.endswith("rows.jsonl:2")


def test_a_list_gives_every_comparison_and_equal_scores_tie(tmp_path: Path):
    found = comparisons_of(
        read(rows(tmp_path, {"prompt": "x", "responses": ["a", "b", "c"], "rewards": [1.0, 3.0, 1.0]}))
    )
    assert list(zip(*found.questions()[1:], found.label.tolist(), strict=True)) == [
        ("a", "b", 0.0),
        ("a", "c", 0.5),
        ("b", "c", 1.0),
    ]


def test_the_limit_takes_whole_prompts_and_what_is_beyond_is_counted(tmp_path: Path):
    data = read(
        rows(
            tmp_path,
            *(
                {"prompt": f"x{k}", "responses": ["a", "b", "c"], "rewards": [1.0, 2.0, 3.0]}
                for k in range(10)
            ),
        )
    )
    found = comparisons_of(data, limit=7)
    assert len(found) == 6 and len(set(found.groups)) == 2
    assert sum(found.left_out.values()) == 24
    assert found == comparisons_of(data, limit=7) and found != comparisons_of(data, limit=7, seed=3)
    assert len(comparisons_of(data, limit=2)) == 2


def test_what_is_no_comparison_is_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(DataError, match=r"of kind demonstration; give pairs"):
        comparisons_of(read(rows(tmp_path, {"prompt": "x", "completion": "a"})))
    pair = {"prompt": "x", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match="no pair has the columns `who` and `whom`"):
        comparisons_of(read(rows(tmp_path, pair)), writers=("who", "whom"))
