"""Reading a run folder: what is missing is noted, what is broken is named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.report.run.load import RunFolderError, load_run


def append(folder: Path, name: str, text: str) -> None:
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(text)


def test_reads_every_file(make_run) -> None:
    run = load_run(make_run(2))
    assert [r.round for r in run.rounds] == [0, 1, 2]
    assert run.reference.round == 0
    assert run.final.round == 2
    assert len(run.steps) == 120
    assert run.by_phase("seconds")["training"] == pytest.approx(192.0)
    assert run.ledger.unaccounted == 0
    assert run.config["train"] == {"lr": 1e-5, "clip": 1.0}
    assert run.notes == ()


def test_a_missing_optional_file_is_noted(make_run) -> None:
    run = load_run(make_run(1, metrics=None, samples=None, ledger=None))
    assert run.steps == run.samples == ()
    assert run.ledger is None
    assert [note.split()[0] for note in run.notes] == ["metrics.jsonl", "samples.jsonl"]


def test_a_half_written_last_line_is_left_out_with_a_note(make_run) -> None:
    folder = make_run(1)
    append(folder, "metrics.jsonl", '{"round": 1, "ste')
    run = load_run(folder)
    assert len(run.steps) == 60
    assert any("metrics.jsonl" in note and "cut short" in note for note in run.notes)


def test_a_broken_line_is_an_error_with_file_and_line(make_run) -> None:
    folder = make_run(1)
    append(folder, "metrics.jsonl", "{oops}\n")
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl, line 61: not JSON"):
        load_run(folder)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"round": "one"}', r"round: .*integer"),
        ('{"round": 2, "kl": {"value": "far"}}', r"kl\.value"),
        ('{"round": 2, "kl": {"value": 1e999}}', r"kl\.value: .*finite"),
        ("[1, 2]", "line 3"),
        ('{"round": -1}', r"round: .*greater than or equal to 0"),
        (f'{{"round": 1{"0" * 400}}}', r"round: .*less than"),
        ('{"round": 2, "kl": {"value": 1e308}}', r"kl\.value: .*less than"),
    ],
)
def test_a_field_of_the_wrong_type_is_an_error_that_names_it(make_run, line: str, reason: str) -> None:
    folder = make_run(1)
    append(folder, "evaluation.jsonl", line + "\n")
    with pytest.raises(RunFolderError, match=rf"(?s)evaluation\.jsonl, line 3.*{reason}|{reason}"):
        load_run(folder)


def test_numbers_that_are_not_finite_become_missing_with_a_note(make_run, lines) -> None:
    evaluation = lines["evaluation"](1, exploitability=lambda r: float("nan") if r else 0.4)
    run = load_run(make_run(1, evaluation=evaluation))
    assert run.final.exploitability is None
    assert any("evaluation.jsonl" in note and "NaN" in note for note in run.notes)


def test_of_a_repeated_round_the_last_counts(make_run, lines) -> None:
    again = lines["evaluation"](1, exploitability=lambda r: 0.123)[1:]
    run = load_run(make_run(2, evaluation=lines["evaluation"](2) + again))
    assert [r.round for r in run.rounds] == [0, 1, 2]
    assert run.rounds[1].exploitability == 0.123
    assert any("1 repeated round" in note for note in run.notes)


def test_a_configuration_that_expands_without_bound_is_not_expanded(make_run) -> None:
    folder = make_run(0)
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    (folder / "config.yaml").write_text(bomb)
    run = load_run(folder)
    assert run.config == {}
    assert run.config_text == bomb
    assert any("config.yaml" in note for note in run.notes)


def test_damaged_whole_files_degrade_with_a_note(make_run) -> None:
    folder = make_run(1)
    (folder / "summary.json").write_text('{"method": ')
    (folder / "environment.json").write_text("[" * 100_000)
    run = load_run(folder)
    assert run.name == folder.name
    assert {note.split()[0] for note in run.notes} == {"summary.json", "environment.json"}


def test_a_folder_without_a_run_and_text_that_is_not_utf8_are_refused(make_run, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        load_run(tmp_path)
    folder = make_run(0)
    (folder / "samples.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(RunFolderError, match=r"samples\.jsonl: not UTF-8"):
        load_run(folder)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("verdicts", '{"round": 1, "prompt_index": 0, "sample": 0, "win": 1.5}'),
        ("held_out", '{"round": 1, "pair": 0, "prompt": 0, "ranked": -1}'),
        ("win_matrix", '{"round": 1, "against": 0, "win_rate": {"value": -1e308}}'),
    ],
)
def test_a_detail_beyond_its_range_is_an_error_that_names_the_line(make_run, log: str, line: str) -> None:
    folder = make_run(1)
    number = len((folder / f"{log}.jsonl").read_text("utf-8").splitlines()) + 1
    append(folder, f"{log}.jsonl", line + "\n")
    with pytest.raises(RunFolderError, match=rf"{log}\.jsonl, line {number}: .*(less|greater) than"):
        load_run(folder)


def test_a_step_beyond_every_measurement_counts_as_infinite(make_run) -> None:
    folder = make_run(1, metrics=[{"round": 1, "step": 1, "loss": 1e308, "grad_norm": -1e308, "lr": 1e-5}])
    (step,) = load_run(folder).steps
    assert (step.loss, step.grad_norm, step.lr) == (float("inf"), float("-inf"), 1e-5)
