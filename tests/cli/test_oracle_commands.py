"""`equipoise oracle check`: figures, page and refusals from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.cli.app import main

WORDS = (
    "short",
    "a somewhat longer answer",
    "an answer that goes on and on for quite a while, and then some",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty pairs whose label prefers the longer answer three times in four, and a rule that always does."""
    monkeypatch.chdir(tmp_path)
    pairs = []
    for k in range(40):
        long, short = WORDS[1 + k % 2], WORDS[k % 2]
        better, worse = (short, long) if k % 4 == 0 else (long, short)
        pairs.append({"prompt": f"question {k}", "chosen": f"{better} {k}", "rejected": f"{worse} {k}"})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    (tmp_path / "rules.py").write_text(
        "def longer(prompt, response):\n    return len(response) / 10\n"
        "def first(prompt, a, b):\n    return 0.9\n"
        "def broken(prompt, response):\n    raise TypeError('no')\n",
        encoding="utf-8",
    )
    return tmp_path


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["oracle", "check", *arguments])
    return int(end.value.code or 0)


def test_figures_as_one_json_object(folder: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--data", "pairs.jsonl", "--against", "rules.py:first", "--no-fits", "--again", "3", "--json"]
    assert ended("rules.py:longer", *options) == 0
    found = json.loads(capsys.readouterr().out)
    longer, first = found["oracles"]
    assert found["data"]["comparisons"] == 40 and found["data"]["ledger"]["used"] == 40
    assert longer["accuracy"]["accuracy"]["value"] == 0.75
    assert longer["length"]["longer_wins"]["value"] == 1.0
    assert longer["length"]["longer_wins_label"]["value"] == 0.75
    assert first["order"]["bias"]["value"] == pytest.approx(0.8)
    assert first["order"]["first"] == 40
    assert first["accuracy"]["accuracy"]["value"] == 0.5
    assert longer["self_agreement"]["same"]["value"] == 1.0


def test_the_page_is_self_contained_and_escapes_names(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "<b>bold.py").write_text(
        "def longer(prompt, response):\n    return len(response) / 10\n", encoding="utf-8"
    )
    assert ended("<b>bold.py:longer", "--data", "pairs.jsonl", "--out", "page.html") == 0
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "page  page.html" in capsys.readouterr().out
    assert "&lt;b&gt;bold.py" in page and "<b>bold" not in page
    assert "<script" not in page and 'src="http' not in page and page.count("data:image/png;base64,") == 3
    assert "The order of the answers does not matter" in page
    assert ended("<b>bold.py:longer", "--data", "pairs.jsonl", "--out", "page.html") == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["rules.py:nobody", "--data", "pairs.jsonl"], "has no function 'nobody'"),
        (["rules.py:longer", "--data", "nothing.jsonl"], "nothing.jsonl"),
        (["rules.py:broken", "--data", "pairs.jsonl"], "none of 40 comparisons has a verdict"),
        (["rules.py:longer", "--data", "pairs.jsonl", "--writers", "one"], "name two columns"),
        (["rules.py:longer", "--data", "pairs.jsonl", "--annotation", "clarity"], "chosen_clarity"),
        (["rules.py:longer", "--data", "pairs.jsonl", "--set", "max_length=3"], "do not apply"),
    ],
)
def test_a_refusal_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str], arguments, why):
    assert ended(*arguments) == 2
    error = capsys.readouterr().err
    assert why in error and "Traceback" not in error


def test_the_terminal_says_what_it_found(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert ended("rules.py:first", "--data", "pairs.jsonl", "--no-fits") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning The order matters: the first place is favoured" in said
    assert "40 comparisons of 40 prompts" in said
