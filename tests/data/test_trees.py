"""Trees of steps as data: every path an answer with its value; what is broken is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from equipoise.data.errors import DataError
from equipoise.data.reading.read import read

TREE = {
    "branches": [
        {
            "step": "3 * 4 = 12\n",
            "branches": [{"step": "2 + 12 = 14", "value": 1}, {"step": "2 + 12 = 15", "value": 0.25}],
        },
        {"step": "2 + 3 = 5\n5 * 4 = 20", "value": 0},
    ]
}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "trees.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("prompt", ["2 + 3 * 4 = ?\n", [{"role": "user", "content": "2 + 3 * 4 = ?"}]])
def test_paths_are_a_scored_list(tmp_path: Path, prompt: Any):
    data = read(written(tmp_path, {"prompt": prompt, "tree": TREE}), format="auto")
    assert data.kind == "scores"
    (record,) = data.records
    assert [(c.text, c.score) for c in record.candidates] == [
        ("3 * 4 = 12\n2 + 12 = 14", 1),
        ("3 * 4 = 12\n2 + 12 = 15", 0.25),
        ("2 + 3 = 5\n5 * 4 = 20", 0),
    ]


@pytest.mark.parametrize(
    "tree, said",
    [
        ({"branches": [{"step": "a"}, {"step": "b", "value": 1}]}, "no value at its end"),
        ({"branches": [{"step": "a", "branches": ["b"]}]}, "a node of a tree"),
        ({"branches": {"step": "a"}}, "branches is a list"),
        ({"branches": [{"step": "a", "value": 1}]}, "two different answers"),
        ({"branches": [{"step": str(i), "value": i} for i in range(10_001)]}, "more than 10,000 paths"),
        (
            {"step": "x" * 20_000, "branches": [{"step": str(i), "value": i} for i in range(6_000)]},
            "more than 100,000,000 characters together",
        ),
        ({"branches": [{"step": 5, "value": 1}, {"step": "b", "value": 0}]}, r"branches\[0\].step"),
        ({"branches": [{"step": "a", "value": "much"}, {"step": "b", "value": 0}]}, "value is not a number"),
        ({"branches": [{"step": "a", "value": True}, {"step": "b", "value": 0}]}, "not a finite number"),
        ({"branches": [{"step": "a", "value": float("nan")}, {"step": "b", "value": 0}]}, "not a finite"),
    ],
)
def test_a_broken_tree_is_refused(tmp_path: Path, tree: Any, said: str):
    rows = [{"prompt": "p", "tree": TREE}, {"prompt": "q", "tree": tree}]
    with pytest.raises(DataError, match=said):
        read(written(tmp_path, *rows), format="tree-text", strict=True)
