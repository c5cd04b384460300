"""The `data` commands and `config import` as typed: files, exit codes, accounts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from equipoise.cli.app import main
from equipoise.data.collate import Prompt, Response
from equipoise.data.reading.read import read
from equipoise.play.rows import Rows, objects
from equipoise.playground import model_path
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder.row_files import save_rows


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve pairs of four prompts, one of them refused."""
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"q{i % 4}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(12)]
    rows[5]["chosen"] = ""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_check_takes_every_data_setting_by_option_by_setting_and_by_file(capsys, tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text('{"question": "q", "chosen": "a", "rejected": "b"}\n' * 1)
    config = tmp_path / "c.yaml"
    config.write_text("method: ipo\ntrain: {lr: 1e-5}\ndata: {mapping: {prompt: question}}\n")
    for given in (
        ["--mapping", "prompt=question"],
        ["--set", "mapping={prompt: question}"],
        ["--config", config],
        ["--config", config, "--format", "pair-text"],
    ):
        code, out, err = run(capsys, "data", "check", file, "--json", *given)
        assert code == 0, err
        assert json.loads(out)["format"] == "pair-text"
    code, _, err = run(capsys, "data", "check", file, "--set", "held_out=0.2")
    assert code == 2 and "do not apply to data check: held_out" in err
    code, _, err = run(capsys, "data", "check", file, "--mapping", "prompt=")
    assert code == 2 and "write our column, =, your column" in err


def test_check_writes_a_page_and_shows_the_rows_that_are_asked_for(
    capsys, pairs: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    code, out, _ = run(
        capsys, "data", "check", pairs, "--rows", "0", "--row", "pairs.jsonl:3", "--html", page
    )
    assert code == 0 and "chosen: [yes 2]" in out and "yes 0" not in out
    assert f"page  {page}" in out and "yes 2" in page.read_text()
    code, _, err = run(capsys, "data", "check", pairs, "--row", "pairs.jsonl:6")
    assert code == 2 and "no used row is 'pairs.jsonl:6'" in err


def test_convert_writes_the_file_and_the_account(capsys, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "trl.jsonl"
    code, printed, err = run(capsys, "data", "convert", pairs, "--to", "trl", "--out", out)
    assert code == 0 and printed == ""
    assert "refused: chosen is empty" in err and "11 rows written" in err
    assert lines(out)[0] == {"prompt": "q0", "chosen": "yes 0", "rejected": "no 0", "id": "pairs.jsonl:1"}
    assert len(read(out)) == 11


def test_standard_output_holds_rows_and_nothing_else(capsys, pairs: Path) -> None:
    code, printed, _ = run(capsys, "data", "convert", pairs, "--out", "-")
    assert code == 0
    assert [json.loads(line)["chosen"] for line in printed.splitlines()][:2] == ["yes 0", "yes 1"]


def test_a_file_is_never_replaced_unasked(capsys, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "there.jsonl"
    out.write_text("mine")
    code, _, err = run(capsys, "data", "convert", pairs, "--out", out)
    assert code == 2 and "give --overwrite" in err and out.read_text() == "mine"
    code, _, _ = run(capsys, "data", "convert", pairs, "--out", out, "--overwrite")
    assert code == 0 and len(lines(out)) == 11


def test_nothing_is_left_where_a_conversion_is_refused(capsys, tmp_path: Path) -> None:
    file, out = tmp_path / "d.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"prompt": "q", "chosen": "a", "rejected": "b", "prob": 0.5}\n')
    code, _, err = run(capsys, "data", "convert", file, "--to", "trl", "--out", out)
    assert code == 2 and "no row can be written: 1 rows left out: a tie has no chosen answer" in err
    code, _, err = run(capsys, "data", "convert", file, "--to", "openai", "--out", out)
    assert code == 2 and "plain strings" in err
    file.write_text('{"prompt": "q", "chosen": "a", "rejected": "b", "weight": 2}\n')
    code, _, err = run(capsys, "data", "convert", file, "--to", "trl", "--out", out, "--lossless")
    assert code == 2 and "trl cannot hold everything: not written, 1 rows: weight" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl"]


def test_lists_become_pairs_on_request(capsys, tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text('{"prompt": "q", "responses": ["a", "b", "c"], "rewards": [1, 3, 2]}\n')
    code, printed, err = run(
        capsys, "data", "convert", file, "--to", "trl", "--pairs", "adjacent", "--out", "-"
    )
    assert code == 0, err
    found = [(row["chosen"], row["rejected"]) for row in map(json.loads, printed.splitlines())]
    assert found == [("b", "c"), ("c", "a")]
    code, _, err = run(capsys, "data", "convert", file, "--to", "trl", "--out", "-")
    assert code == 2 and "--pairs" in err


def test_the_parts_of_a_split_share_no_prompt_and_hold_every_row(capsys, pairs: Path, tmp_path: Path) -> None:
    train, held = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    arguments = ["data", "split", pairs, "--fraction", "0.5", "--out-train", train, "--out-held-out", held]
    code, _, err = run(capsys, *arguments, "--seed", "3")
    assert code == 0, err
    parts = [{row["prompt"] for row in lines(file)} for file in (train, held)]
    assert len(parts[0]) == len(parts[1]) == 2 and not parts[0] & parts[1]
    assert len(lines(train)) + len(lines(held)) == 11
    code, _, err = run(capsys, "data", "split", pairs, "--out-train", "x", "--out-held-out", "x")
    assert code == 2 and "named twice" in err
    train.unlink()
    code, _, err = run(capsys, *arguments)  # the other file is there: neither is written
    assert code == 2 and not train.exists()


def test_a_sample_of_prompts_holds_all_their_rows(capsys, pairs: Path) -> None:
    code, printed, _ = run(capsys, "data", "sample", pairs, "-n", "2", "--by", "prompt", "--out", "-")
    rows = [json.loads(line) for line in printed.splitlines()]
    every = read(pairs).records
    assert code == 0 and len({row["prompt"] for row in rows}) == 2
    assert len(rows) == sum(record.context in {row["prompt"] for row in rows} for record in every)


def judged(folder: Path, *, prob: Any = None, reward: Any = None, texts: Any, chat: bool = True) -> None:
    """A run folder's round 1 with these responses to one question each."""
    context: Any = [{"role": "user", "content": "q"}] if chat else "q"
    responses = [[Response((7, i), text, finished=i == 0) for i, text in enumerate(row)] for row in texts]
    rows = Rows(
        prompts=objects([Prompt((1, place), context, "q") for place in range(len(texts))]),
        responses=objects(responses, width=len(texts[0])),
        weight=np.ones(len(texts)),
        writers=("start",) * len(texts[0]),
        prob=None if prob is None else np.array(prob),
        reward=None if reward is None else np.array(reward),
    )
    save_rows(Journal(folder).stage(1, "judging"), rows)


def test_judged_pairs_of_a_run_are_data_with_the_probability_of_the_oracle(capsys, tmp_path: Path) -> None:
    judged(tmp_path / "run", prob=[0.75, 0.5, 1.0], texts=[("good", "bad"), ("x", "y"), ("same", "same")])
    out = tmp_path / "pairs.jsonl"
    code, _, err = run(capsys, "data", "convert", tmp_path / "run", "--round", "1", "--out", out)
    assert code == 0 and "refused: both answers are equal" in err
    first, second = lines(out)
    assert first | {"id": ""} == {
        "id": "",
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
        "prob": 0.75,
        "finished": [True, False],
    }
    assert first["id"] == "judging.parquet:1"
    assert second["prob"] == 0.5
    assert [record.prob for record in read(out).records] == [0.75, 0.5]


def test_rewarded_responses_of_a_run_are_scored_lists(capsys, tmp_path: Path) -> None:
    judged(tmp_path / "run", reward=[[1.0, 3.0, 2.0]], texts=[("a", "b", "c")], chat=False)
    code, printed, err = run(capsys, "data", "convert", tmp_path / "run", "--out", "-")
    assert code == 0, err
    row = json.loads(printed)
    assert (row["prompt"], row["responses"], row["rewards"]) == ("q", ["a", "b", "c"], [1.0, 3.0, 2.0])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["run", "--round", "7"], "rounds with judged responses: 1"),
        (["pairs.jsonl", "--round", "1"], "--round is of a run folder"),
        (["empty"], "no judged responses in this folder"),
    ],
)
def test_rounds_that_are_not_there(capsys, pairs: Path, monkeypatch, given: list[str], says: str) -> None:
    monkeypatch.chdir(pairs.parent)
    judged(Path("run"), prob=[1.0], texts=[("a", "b")])
    Path("empty/rounds").mkdir(parents=True)
    code, _, err = run(capsys, "data", "convert", *given, "--out", "-")
    assert code == 2 and says in err


def test_a_damaged_round_is_refused(capsys, tmp_path: Path) -> None:
    judged(tmp_path / "run", prob=[1.0], texts=[("a", "b")])
    path = Journal(tmp_path / "run").stage(1, "judging")
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = run(capsys, "data", "convert", tmp_path / "run", "--out", "-")
    assert code == 2 and "judging.parquet: the Parquet file is damaged" in err


def test_an_imported_configuration_is_written_and_its_losses_are_named(capsys, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.yaml", tmp_path / "ours.yaml"
    theirs.write_text("model_name_or_path: m\nloss_type: hinge\nbeta: 0.2\nld_alpha: 0.5\nlogging_steps: 5\n")
    code, _, err = run(capsys, "config", "import", theirs, "--out", ours)
    assert (
        code == 0 and "TRL: method hinge_norm" in err and "- ld_alpha: 0.5: lengths are not discounted" in err
    )
    assert yaml.safe_load(ours.read_text())["objective"] == {"gamma": 0.2}
    code, _, err = run(capsys, "config", "import", theirs, "--out", ours)
    assert code == 2 and "--overwrite" in err
    code, printed, _ = run(capsys, "config", "import", theirs, "--from", "trl", "--trainer", "dpo")
    assert code == 0 and yaml.safe_load(printed)["method"] == "hinge_norm"


SCORED = {"prompt": "Why?", "chosen": "Because.", "rejected": "No.", "score_chosen": 9, "score_rejected": 4}


def scored(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "scored.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_relabelled_pairs_are_written_twice_with_their_goals(capsys, tmp_path: Path) -> None:
    file, out = (
        scored(tmp_path, SCORED, SCORED | {"prompt": "Who?", "score_rejected": 9}),
        tmp_path / "out.jsonl",
    )
    code, printed, err = run(capsys, "data", "relabel", file, "--out", out, "--goal", "Be a {goal}.")
    assert code == 0 and printed == ""
    assert [(row["prompt"], row["chosen"]) for row in lines(out)] == [
        ("Be a 9.\n\nWhy?", "Because."),
        ("Be a 4.\n\nWhy?", "No."),
    ]
    assert "1 pairs left out: both responses have the same goal" in err and "2 rows written" in err
    code, printed, _ = run(
        capsys, "data", "relabel", file, "--out", "-", "--level", "poor", "--level", "good"
    )
    goals = [json.loads(line)["attributes"]["goal"] for line in printed.splitlines()]
    assert code == 0 and goals == ["good", "poor"]


def test_scored_lists_are_relabelled_as_pairs(capsys, tmp_path: Path) -> None:
    file = scored(tmp_path, {"prompt": "q", "responses": ["a", "b", "c"], "rewards": [1, 3, 2]})
    code, printed, err = run(capsys, "data", "relabel", file, "--out", "-", "--pairs", "best_worst")
    assert code == 0, err
    assert [json.loads(line)["chosen"] for line in printed.splitlines()] == ["b", "a"]


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        ([SCORED], ["--goal", "Be good."], "must hold {goal}"),
        ([SCORED], ["--goal", ""], "must hold {goal}"),
        ([SCORED], ["--level", "good"], "at least two different levels"),
        ([SCORED], ["--level", "good", "--level", ""], "the name of a level is blank"),
        ([SCORED], ["--level", "good", "--level", "\udcff"], "lone surrogate"),
        ([SCORED], ["--pairs", "all"], "--pairs makes pairs of lists"),
        ([SCORED | {"score_chosen": "much"}], [], "no pair has a score of each response"),
        ([SCORED | {"score_chosen": float("nan")}], [], "no pair has a score of each response"),
        ([SCORED | {"attributes": {"goal": "9"}}], [], "which relabelled pairs have"),
        ([SCORED | {"prompt": "q\ud800"}], [], "no rows to use"),
        ([{"prompt": "q", "completion": "a", "label": True}], [], "no pair has a score of each response"),
        ([], [], "no rows to use"),
    ],
)
def test_what_cannot_be_relabelled_ends_in_a_sentence(
    capsys, tmp_path: Path, rows: list[dict[str, Any]], more: list[str], says: str
) -> None:
    out = tmp_path / "out.jsonl"
    code, printed, err = run(capsys, "data", "relabel", scored(tmp_path, *rows), "--out", out, *more)
    assert code == 2 and says in err and printed == "" and not out.exists()


def test_rationales_are_written_for_pairs_without_one_and_again_on_request(capsys, tmp_path: Path) -> None:
    ask = {
        "prompt": "On a sunny morning a tired sailor asks for tea.",
        "chosen": "Fine, a small iced mint tea.",
        "rejected": "Fine, a small hot black tea.",
    }
    file, out = (
        scored(tmp_path, ask, ask | {"prompt": "Who?", "rationale": "It is iced."}),
        tmp_path / "out.jsonl",
    )
    command = ["data", "rationales", file, "--model", model_path(), "--out", out, "--max-new-tokens", 8]
    code, _, err = run(capsys, *command)
    assert code == 0, err
    first, second = lines(out)
    assert first["rationale"] and second["rationale"] == "It is iced."
    assert "1 rationales written by" in err and not out.with_name("out.jsonl.unfinished").exists()
    code, _, err = run(capsys, *command)
    assert code == 2 and "exists" in err
    code, _, err = run(capsys, *command, "--overwrite")
    assert code == 0 and lines(out) == [first, second]  # the same draws
    code, _, err = run(capsys, *command, "--overwrite", "--again")
    assert code == 0 and "2 rationales written by" in err and lines(out)[1]["rationale"] != "It is iced."


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        ([{"prompt": "q", "completion": "a", "label": True}], [], "rationales explain pairs"),
        ([SCORED | {"rationale": "known"}], [], "every pair has a rationale already"),
        ([SCORED | {"prob": 0.5}], [], "every pair ties"),
        ([SCORED | {"rationale": 5}], [], "every row was refused"),
        ([], [], "no rows to use"),
        ([SCORED], ["--model", "nowhere/at/all"], "nowhere/at/all"),
        ([SCORED], ["--precision", "fp8"], "--precision must be fp32 or bf16"),
    ],
)
def test_what_gets_no_rationale_ends_in_a_sentence(
    capsys, tmp_path: Path, rows: list[dict[str, Any]], more: list[str], says: str
) -> None:
    out = tmp_path / "out.jsonl"
    file = scored(tmp_path, *rows)
    code, _, err = run(capsys, "data", "rationales", file, "--model", model_path(), "--out", out, *more)
    assert code == 2 and says in err and not out.exists()
