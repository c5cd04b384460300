"""Recorded verdicts: each counts for the order it was given in, and a missing one fails."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import pytest

from equipoise.oracles import OracleError, Policy, load

CHAT = [{"role": "user", "content": "Hello?"}]
ROWS = [
    {"prompt": CHAT, "response_a": "one", "response_b": "two", "prob": 1.0},
    {"prompt": CHAT, "response_a": "one", "response_b": "two", "prob": 0.5},
    {"prompt": CHAT, "response_a": "two", "response_b": "one", "prob": 0.75},
    {"prompt": "plain", "response_a": "one", "response_b": "two", "prob": None},
    {"prompt": "once", "response_a": "one", "response_b": "two", "prob": 0.25},
]


def oracle(folder: Path, rows=ROWS, settings: str = "", **policy):
    (folder / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "judge.yaml").write_text(f"kind: recorded\nverdicts: v.jsonl\n{settings}", encoding="utf-8")
    return load(str(folder / "judge.yaml"), policy=Policy(**policy))


def test_two_orders_are_averaged_unless_one_is_asked_for(tmp_path: Path):
    asked = ([CHAT], ["one"], ["two"])
    assert float(oracle(tmp_path).compare(*asked)) == pytest.approx((0.75 + 1 - 0.75) / 2)
    one_order = oracle(tmp_path, both_orders=False).inner
    assert float(one_order.compare(*asked)) == 0.75
    assert float(one_order.compare([CHAT], ["two"], ["one"])) == 0.75


def test_what_was_not_recorded_or_had_no_verdict_is_missing(tmp_path: Path):
    found = oracle(tmp_path, failures=1.0).compare(["plain", "once"], ["one", "one"], ["two", "two"])
    assert all(isnan(value) for value in found.tolist())
    with pytest.raises(OracleError, match="no verdict"):
        oracle(tmp_path).compare(["plain"], ["one"], ["two"])
    symmetric = oracle(tmp_path, settings="both_orders: false\n")
    assert symmetric.compare(["once"] * 2, ["one", "two"], ["two", "one"]).tolist() == [0.25, 0.75]


def test_the_fingerprint_is_of_the_verdicts(tmp_path: Path):
    first = oracle(tmp_path).inner.fingerprint
    assert oracle(tmp_path).inner.fingerprint == first
    assert oracle(tmp_path, [*ROWS[:-1], {**ROWS[-1], "prob": 0.3}]).inner.fingerprint != first
    assert oracle(tmp_path, settings="both_orders: false\n").inner.fingerprint != first


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "p", "response_a": "a", "response_b": "b"}, ":1: a recorded verdict needs prompt"),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "prob": 1.2}, "prob is 1.2"),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "prob": True}, "prob is True"),
        ({"prompt": 3, "response_a": "a", "response_b": "b", "prob": 1}, "must be text or a list"),
    ],
)
def test_a_row_that_is_no_verdict_is_named(tmp_path: Path, row, why):
    with pytest.raises(OracleError, match=why):
        oracle(tmp_path, [row])


def test_a_missing_file_and_an_unknown_setting_are_one_sentence(tmp_path: Path):
    with pytest.raises(OracleError, match="judge: Extra inputs"):
        oracle(tmp_path, settings="judge: me\n")
    (tmp_path / "judge.yaml").write_text("kind: recorded\nverdicts: nothing.jsonl\n", encoding="utf-8")
    with pytest.raises(OracleError, match=r"nothing\.jsonl"):
        load(str(tmp_path / "judge.yaml"))


def test_a_file_without_verdicts_is_refused_before_anything_is_asked(tmp_path: Path):
    with pytest.raises(OracleError, match=r"v\.jsonl: no rows"):
        oracle(tmp_path, [])
