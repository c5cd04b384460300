"""`data check`: the ledger, the statistics of every kind of data and the scored tokens, for people and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from equipoise.data.errors import DataError
from equipoise.report.data_check.check import check, check_json
from equipoise.report.data_check.page import write_page
from equipoise.report.data_check.text import print_check, shortened
from equipoise.report.data_check.views import Piece

Rows = Callable[..., Path]

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)

LONG = {"prompt": "q [bold]x[/bold]", "chosen": " yes yes", "rejected": " no"}
EVEN = {"prompt": "r", "chosen": " yes", "rejected": " not"}
SHORT = {"prompt": "s", "chosen": " a", "rejected": " yes yes"}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# rows of every kind, and the part names that their views have
KINDS: dict[str, tuple[list[Any], list[str]]] = {
    "pairs": ([LONG, EVEN], ["prompt", "chosen", "rejected"]),
    "chat pairs": (
        [{"prompt": [user("q")], "chosen": [said("yes")], "rejected": [said("no")]}],
        ["prompt", "chosen", "rejected"],
    ),
    "unpaired": ([{"prompt": "q", "completion": " yes", "label": True}], ["prompt", "completion"]),
    "demonstrations": ([{"prompt": "q", "completion": " yes"}], ["prompt", "completion"]),
    "prompts": ([{"prompt": "q"}], ["prompt"]),
    "conversations": ([{"messages": [user("q"), said("yes")]}], ["prompt"]),
    "scored lists": (
        [{"prompt": "q", "responses": [" a", " b", " c"], "rewards": [1, 2, 3]}],
        ["prompt", "answer", "answer", "answer"],
    ),
    "scored chat lists": (
        [{"prompt": [user("q")], "responses": ["a", "b"], "rewards": [1, 2]}],
        ["prompt", "answer", "answer"],
    ),
    "nectar": (
        [{"prompt": "q", "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}]}],
        ["prompt", "answer", "answer"],
    ),
    "ranked": (
        [
            {
                "context": [user("q")],
                "completions": [{"completion": [said(t)], "rank": i} for i, t in enumerate("ab")],
            }
        ],
        ["prompt", "answer", "answer"],
    ),
}


def printed(report: Any, **options: Any) -> str:
    out = StringIO()
    print_check(report, Console(file=out, width=160, **options))
    return out.getvalue()


@pytest.fixture
def model(makers: Any, tmp_path: Path) -> Path:
    makers["byte-level"](template=CHATML, eos="<|end|>").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_model", [False, True])
def test_every_kind_of_data_is_checked_with_and_without_a_model(
    rows: Rows, model: Path, tmp_path: Path, kind: str, with_model: bool
) -> None:
    content, parts = KINDS[kind]
    report = check(rows(*content), model=model if with_model else None, max_length=128)
    data = check_json(report)
    assert [part["part"] for part in data["rows"][0]["parts"]] == parts
    assert data["ledger"]["used"] == data["statistics"]["rows"] == len(content)
    assert json.loads(json.dumps(data)) == data
    assert "data.jsonl:1" in printed(report)
    page = write_page(report, tmp_path / "page.html").read_text()
    assert page.count("<section") == len(data["rows"])


def test_lengths_and_the_share_of_longer_chosen_answers(rows: Rows) -> None:
    report = check(rows(LONG, EVEN, SHORT))
    data = check_json(report)
    assert data["unit"] == "characters"
    assert data["lengths"]["prompt"]["max"] == 16
    assert data["lengths"]["chosen"]["mean"] == round((8 + 4 + 2) / 3, 4)
    assert data["chosen_longer"] == 0.5  # longer, equal, shorter: (1 + 1/2 + 0) / 3
    assert data["median_gap"] == 0
    share = data["statistics"]["length_bias"]["longer_wins"]
    assert share["low"] < 0.5 < share["high"] and share["n"] == 3


def test_length_bias_follows_the_label_and_leaves_ties_out(rows: Rows) -> None:
    turned = LONG | {"prompt": "t", "prob": 0.2}  # `rejected`, 3 characters, is preferred over 8
    tied = LONG | {"prompt": "u", "prob": 0.5}
    bias = check_json(check(rows(turned, tied)))["statistics"]["length_bias"]
    assert bias["longer_wins"]["value"] == 0.0 and bias["longer_wins"]["n"] == 1
    assert bias["median_gap"] == 3 - 8


def test_length_bias_of_lists_compares_best_with_worst(rows: Rows) -> None:
    one = {"prompt": "q", "responses": ["long answer", "mid", "x"], "rewards": [3, 2, 1]}
    equal = {"prompt": "r", "responses": ["a", "bb"], "rewards": [1, 1]}
    data = check_json(check(rows(one, equal)))
    assert data["median_gap"] == 11 - 1 and data["statistics"]["length_bias"]["longer_wins"]["n"] == 1
    assert data["statistics"]["labels"]["counts"] == {
        "lists with one best answer": 1,
        "lists of equal scores": 1,
    }
    assert data["statistics"]["labels"]["score"]["max"] == 3


def test_length_bias_of_unpaired_feedback_is_the_mann_whitney_share(rows: Rows) -> None:
    lengths = {True: (4, 2), False: (1, 2, 5)}
    content = [
        {"prompt": f"{label}{n}", "completion": "x" * n, "label": label}
        for label, all_of in lengths.items()
        for n in all_of
    ]
    data = check_json(check(rows(*content)))
    # of the six couples 4>1, 4>2, 2>1 are won, 2=2 is half, 4<5 and 2<5 are lost
    assert data["chosen_longer"] == round(3.5 / 6, 4)
    assert data["median_gap"] == 3 - 2
    assert data["statistics"]["labels"]["counts"] == {"desirable": 2, "undesirable": 3}
    assert data["lengths"]["undesirable"]["max"] == 5


def test_labels_are_counted(rows: Rows) -> None:
    pairs = [
        EVEN | {"prompt": "1", "margin": 2},
        EVEN | {"prompt": "2", "prob": 0.7, "margin": -1},
        EVEN | {"prompt": "3", "prob": 0.5},
        EVEN | {"prompt": "4", "prob": 0.0, "weight": 0.0},
    ]
    labels = check_json(check(rows(*pairs)))["statistics"]["labels"]
    assert labels["counts"] == {
        "hard labels": 2,
        "soft labels": 1,
        "ties": 1,
        "whose `rejected` is preferred": 1,
        "of weight zero": 1,
        "with a margin that is not positive": 1,
    }
    assert (labels["margin"]["min"], labels["margin"]["max"]) == (-1, 2)
    assert labels["prob"]["median"] == 0.6


def test_turns_roles_systems_and_tools_are_counted(rows: Rows) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    one = {
        "prompt": [{"role": "system", "content": "be kind"}, user("a"), said("b"), user("c")],
        "chosen": [said("yes")],
        "rejected": [said("no")],
        "tools": [tool],
    }
    two = {"prompt": [user("d")], "chosen": [said("yes")], "rejected": [said("no")]}
    found = check_json(check(rows(one, two)))["statistics"]["conversations"]
    assert found["turns"] == {"1": 1, "4": 1}
    assert found["roles"] == {"assistant": 5, "user": 3, "system": 1}
    assert (found["with_system"], found["systems"]) == (1, {"be kind": 1})
    assert found["rows"] == {"with tools": 1}


def test_the_answers_of_lists_are_one_part_whatever_their_number(rows: Rows) -> None:
    short = {"prompt": "q", "responses": ["a", "bb"], "rewards": [1, 2]}
    long = {"prompt": "q r", "responses": ["a", "bbbb", "cc"], "rewards": [1, 2, 3]}
    data = check_json(check(rows(short, long)))
    assert data["lengths"]["answer"]["mean"] == 2.0 and data["lengths"]["answer"]["max"] == 4
    assert data["statistics"]["answers_per_row"] == {"2": 1, "3": 1}
    assert [part["about"] for part in data["rows"][1]["parts"]] == ["", "score 1", "score 2", "score 3"]


def test_with_a_model_the_view_shows_each_scored_token_and_the_closing_one(
    makers: Any, rows: Rows, tmp_path: Path
) -> None:
    makers["byte-level"]().save_pretrained(tmp_path / "model")
    report = check(rows(LONG, EVEN), model=tmp_path / "model", rows=1, max_length=64)
    data = check_json(report)
    (row,) = data["rows"]
    assert data["unit"] == "tokens" and row["at"].endswith("data.jsonl:1")
    assert [part["scored"] for part in row["parts"]] == [False, True, True]
    assert "".join(row["parts"][0]["pieces"]) == "<s>q [bold]x[/bold]"
    assert "".join(row["parts"][1]["pieces"]) == " yes yes</s>"
    assert row["parts"][1]["closing"] == "</s>" and row["parts"][0]["closing"] is None
    assert data["statistics"]["characters"]["chosen"]["max"] == 8  # both units are there
    assert "[ yes yes|</s>]" in printed(report)


def test_markup_in_the_data_is_printed_literally_and_scored_tokens_are_coloured(rows: Rows) -> None:
    report = check(rows(LONG))
    assert "prompt: q [bold]x[/bold]" in printed(report) and "chosen: [ yes yes]" in printed(report)
    coloured = printed(report, force_terminal=True, color_system="standard")
    assert "\x1b[4;32m yes yes" in coloured and "\x1b[4;31m no" in coloured
    assert "\x1b[2mq [bold]x[/bold]" in coloured


@pytest.mark.parametrize("text", ["你好，世界", "สวัสดีชาวโลก", "مرحبا بالعالم", "café 😀 naïve"])
def test_text_of_any_script_is_shown_whole(rows: Rows, text: str) -> None:
    report = check(rows({"prompt": text, "chosen": text + "!", "rejected": "no"}))
    assert f"prompt: {text}\n" in printed(report)


def test_the_ledger_and_the_decision_are_printed(rows: Rows) -> None:
    text = printed(check(rows(LONG, LONG, EVEN | {"chosen": ""})))
    assert "refused: chosen is empty" in text and "duplicate" in text
    assert "format pair-text" in text


def test_a_cut_answer_is_marked(makers: Any, rows: Rows, tmp_path: Path) -> None:
    makers["word-level"]().save_pretrained(tmp_path / "model")
    row = {"prompt": "yes", "chosen": "no " * 9, "rejected": "sky"}
    data = check_json(check(rows(row), model=tmp_path / "model", max_length=6))
    assert [part["about"] for part in data["rows"][0]["parts"]] == ["", "cut at max_length", ""]


def test_single_rows_are_shown_by_file_and_line(rows: Rows) -> None:
    file = rows(LONG, EVEN, SHORT)
    for name in (f"{file}:2", "data.jsonl:2", "2"):
        assert [v.at for v in check(file, rows=0, show=[name]).views] == [f"{file}:2"]
    with pytest.raises(DataError, match=r"no used row is 'data\.jsonl:9'"):
        check(file, show=["data.jsonl:9"])


def test_a_long_part_is_shortened_with_a_count() -> None:
    pieces = shortened([Piece("a" * 30), Piece("b" * 30, scored=True), Piece("</s>", True, True)], most=20)
    text = "".join(piece.text for piece in pieces)
    assert text == "a" * 10 + " ... (44 characters) ... " + "b" * 6 + "</s>"
    assert pieces[-1].closing


def test_the_page_is_self_contained_and_escapes_what_the_data_say(rows: Rows, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> \x1b[2J \u202e <img src=x onerror=y>"
    page = write_page(
        check(rows({"prompt": evil, "chosen": evil + "1", "rejected": "no"})), tmp_path / "p.html"
    )
    html = page.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in html and "default-src 'none'" in html
    assert not re.search(r"<script|<img|https?://|\x1b|\u202e", html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\x1b[2J \\u202e" in html
