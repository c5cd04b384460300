"""`equipoise label` on the command line: what it refuses, in one sentence, and what it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the labelling page needs the extra `label`")

from equipoise.cli.app import main
from equipoise.label import server
from equipoise.label.votes import Votes


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pairs, prompts and two files of answers, in which the command runs; the page ends at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server.Page, "serve", lambda page: page._socket.close())
    rows = {
        "pairs": [{"prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(4)],
        "prompts": [{"prompt": "p"}],
        "one": [{"prompt": "p", "completion": "1"}],
        "two": [{"prompt": "p", "completion": "2"}],
    }
    for name, content in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("page", "give FILE (pairs, lists or a run folder), or two files of answers"),
        ("--a one.jsonl", "give FILE (pairs, lists or a run folder), or two files of answers"),
        ("pairs.jsonl --a one.jsonl --b two.jsonl", "give FILE"),
        ("prompts.jsonl", "people compare pairs or lists of answers"),
        ("--a one.jsonl --b pairs.jsonl", "rows of kind pair; a file of answers has a prompt and one answer"),
        ("pairs.jsonl --rater <b>", "a rater's name has 1 to 40 letters"),
        ("none.jsonl", "none.jsonl"),
        ("pairs.jsonl --out one.jsonl", "one.jsonl, line 1: not a line of a votes file"),
        ("report none.jsonl", "there is no votes file none.jsonl"),
        ("export pairs.jsonl --out pairs.jsonl", "pairs.jsonl exists"),
    ],
)
def test_what_cannot_be_labelled_is_one_sentence(
    data: Path, arguments: str, says: str, capsys: pytest.CaptureFixture[str]
):
    before = {file: file.read_bytes() for file in data.glob("*.jsonl")}
    with pytest.raises(SystemExit) as end:
        main(["label", *arguments.split()])
    assert end.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert {file: file.read_bytes() for file in data.glob("*.jsonl")} == before


def test_a_file_is_labelled_without_naming_the_page(data: Path, capsys: pytest.CaptureFixture[str]):
    for arguments in ("pairs.jsonl --count 3", "--a one.jsonl --b two.jsonl --out both.jsonl"):
        with pytest.raises(SystemExit) as end:
            main(["label", *arguments.split()])
        assert not end.value.code
    assert "http://127.0.0.1:" in capsys.readouterr().out
    assert len(Votes.read(data / "pairs.votes.jsonl").pairs) == 3
    (pair,) = Votes.read(data / "both.jsonl").pairs.values()
    assert (pair.texts, pair.systems) == (("1", "2"), ("one", "two"))
