"""`data check`: the ledger, the lengths and the scored tokens, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from equipoise.data.report import check, check_json, print_check

Rows = Callable[..., Path]

LONG = {"prompt": "q [bold]x[/bold]", "chosen": " yes yes", "rejected": " no"}
EVEN = {"prompt": "r", "chosen": " yes", "rejected": " not"}
SHORT = {"prompt": "s", "chosen": " a", "rejected": " yes yes"}


def printed(report: Any, **options: Any) -> str:
    out = StringIO()
    print_check(report, Console(file=out, width=160, **options))
    return out.getvalue()


def test_lengths_and_the_share_of_longer_chosen_answers(rows: Rows) -> None:
    report = check(rows(LONG, EVEN, SHORT))
    assert report.unit == "characters"
    assert report.lengths["prompt"].max == 16
    assert report.lengths["chosen"].mean == round((8 + 4 + 2) / 3, 2)
    assert report.chosen_longer == 0.5
    assert report.median_gap == 0


def test_the_answers_of_lists_are_one_part_whatever_their_number(rows: Rows) -> None:
    short = {"prompt": "q", "responses": ["a", "bb"], "rewards": [1, 2]}
    long = {"prompt": "q r", "responses": ["a", "bbbb", "cc"], "rewards": [1, 2, 3]}
    report = check(rows(short, long))
    assert report.lengths["answer"].mean == 2.0 and report.lengths["answer"].max == 4
    assert report.chosen_longer is None
    assert [part for part, _ in report.views[1][1]] == ["prompt", "answer", "answer", "answer"]


def test_with_a_model_the_view_shows_each_scored_token(makers: Any, rows: Rows, tmp_path: Path) -> None:
    makers["byte-level"]().save_pretrained(tmp_path / "model")
    report = check(rows(LONG, EVEN), model=tmp_path / "model", rows=1, max_length=64)
    data = check_json(report)
    (row,) = data["rows"]
    assert data["unit"] == "tokens" and row["at"].endswith("data.jsonl:1")
    assert [part["scored"] for part in row["parts"]] == [False, True, True]
    assert "".join(row["parts"][0]["pieces"]) == "<s>q [bold]x[/bold]"
    assert "".join(row["parts"][1]["pieces"]) == " yes yes</s>"
    assert json.loads(json.dumps(data)) == data


def test_markup_in_the_data_is_printed_literally_and_scored_tokens_are_coloured(rows: Rows) -> None:
    report = check(rows(LONG))
    assert "q [bold]x[/bold]" in printed(report)
    coloured = printed(report, force_terminal=True, color_system="standard")
    assert "\x1b[4;32m yes yes" in coloured and "\x1b[4;31m no" in coloured
    assert "\x1b[2mq [bold]x[/bold]" in coloured


def test_the_ledger_and_the_decision_are_printed(rows: Rows) -> None:
    text = printed(check(rows(LONG, LONG, EVEN | {"chosen": ""})))
    assert "refused: chosen is empty" in text and "duplicate" in text
    assert "format pair-text" in text


def test_prompts_alone_and_chat_can_be_checked(rows: Rows) -> None:
    assert check_json(check(rows({"prompt": "sing"})))["chosen_longer"] is None
    chat = {"prompt": [{"role": "user", "content": "hi"}], "completion": "yes", "label": 1}
    report = check(rows(chat, name="chat.jsonl"))
    assert report.views[0][1][0] == ("prompt", [("[user] hi", False)])


def test_a_cut_answer_is_marked(makers: Any, rows: Rows, tmp_path: Path) -> None:
    makers["word-level"]().save_pretrained(tmp_path / "model")
    row = {"prompt": "yes", "chosen": "no " * 9, "rejected": "sky"}
    report = check(rows(row), model=tmp_path / "model", max_length=6)
    assert [part for part, _ in report.views[0][1]] == ["prompt", "chosen (cut)", "rejected"]
