"""Damaged run folders: found where they are read, said in one sentence, and mended by what the sentence says."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch

from equipoise.cli.app import main
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.report.comparison.compare import compare
from equipoise.report.run.page import write_report
from equipoise.run.session import align
from equipoise.worlds.folder.manifest import DamagedRun, Manifest
from equipoise.worlds.text.training import Trainer

ONE_SENTENCE = (ValueError, RuntimeError, OSError)


class Stopped(BaseException):
    """Stands for a process that ends in the middle."""


def play(folder: Path, out: str = "run", **settings):
    return align(
        "dpo",
        model=model_path(),
        data=folder / "pairs.jsonl",
        out=folder / out,
        quiet=True,
        rounds=2,
        settings={
            "play.rounds": 2,
            "objective.parts": 2,
            "train.batch": 4,
            "train.save_every": 2,
            "evaluate.prompts": 2,
            "evaluate.samples": 1,
            "sampling.max_new_tokens": 4,
            "train.lr": 1e-3,
        }
        | settings,
    )


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that is finished in `whole` and, in `run`, stopped in round 2 at step 3, its position saved at step 2."""
    folder = tmp_path_factory.mktemp("stopped")
    write_pairs(folder / "pairs.jsonl", LanguageGame(), 30, seed=1, reference=reference_policy())
    play(folder, "whole")
    real = Trainer._record

    def record(self, round, step, name, figures):
        real(self, round, step, name, figures)
        if (round, step) == (2, 3):
            raise Stopped

    Trainer._record = record
    try:
        with pytest.raises(Stopped):
            play(folder)
    finally:
        Trainer._record = real
    return folder


@pytest.fixture
def copy(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "copy")
    for text in (tmp_path / "copy").rglob("*.yaml"):  # the data lie in the copy
        text.write_text(text.read_text().replace(str(stopped), str(tmp_path / "copy")))
    for text in (tmp_path / "copy").rglob("inputs.json"):
        text.write_text(text.read_text().replace(str(stopped), str(tmp_path / "copy")))
    return tmp_path / "copy"


def results(run: Path) -> dict[str, bytes]:
    """What a run has computed: weights, anchors, stages, logs."""
    names = (
        "*.safetensors",
        "*.parquet",
        "metrics.jsonl",
        "evaluation.jsonl",
        "samples.jsonl",
        "checks.jsonl",
    )
    return {str(f.relative_to(run)): f.read_bytes() for name in names for f in run.rglob(name)}


def flip(path: Path, share: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def anchors_of_this_round(run: Path) -> Path:
    """The anchors that were written last."""
    recorded = [json.loads(line)["file"] for line in (run / "manifest.jsonl").read_text().splitlines()]
    return run / [name for name in recorded if name.startswith("anchors/")][-1]


DAMAGED = {
    "progress": (lambda run: run / "progress.safetensors", True),
    "anchors": (anchors_of_this_round, True),
    "a stage of this round": (lambda run: run / "rounds/002/sampling.parquet", True),
    "the judged stage": (lambda run: run / "rounds/002/judging.parquet", True),
    "the policy": (lambda run: run / "checkpoints/round-001/model.safetensors", False),
    "the reference": (lambda run: run / "checkpoints/initial/model.safetensors", False),
    "evaluation prompts": (lambda run: run / "evaluation/prompts.parquet", False),
    "names of policies": (lambda run: run / "rounds/001/policies.json", False),
    "metrics": (lambda run: run / "metrics.jsonl", False),
    "evaluations": (lambda run: run / "evaluation.jsonl", False),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", DAMAGED)
def test_a_flipped_bit_is_refused_and_the_remedy_gives_the_same_bytes(copy, what):
    where, mendable = DAMAGED[what]
    path = where(copy / "run")
    flip(path, 0.3)
    with pytest.raises(ONE_SENTENCE) as refused:
        play(copy)
    assert path.name in str(refused.value)
    if not mendable:
        assert "restore it from a copy" in str(refused.value)
    else:
        assert "delete it and repeat the command" in str(refused.value)
        path.unlink()
        play(copy)
        assert results(copy / "run") == results(copy / "whole")


@pytest.mark.parametrize("what", ["progress", "the policy", "anchors", "a stage of this round"])
def test_a_file_cut_short_is_one_sentence(copy, what):
    path = DAMAGED[what][0](copy / "run")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DamagedRun, match=path.name):
        play(copy)


def test_the_last_round_can_be_trained_again(copy):
    flip(copy / "whole/checkpoints/round-002/model.safetensors")
    whole = results(copy / "run")  # only to have a third copy to compare with
    play(copy)
    assert results(copy / "run") != whole
    shutil.rmtree(copy / "whole/checkpoints/round-002")
    (copy / "whole/rounds/002/policies.json").unlink()
    play(copy, "whole")
    assert results(copy / "whole") == results(copy / "run")


@pytest.mark.slow
@pytest.mark.parametrize("log", ["evaluation.jsonl", "samples.jsonl", "timings.jsonl"])
def test_a_last_line_cut_by_a_power_loss_is_written_again(copy, log):
    path = copy / "run" / log
    path.write_bytes(path.read_bytes()[:-7])
    play(copy)
    assert results(copy / "run") == results(copy / "whole")


def test_an_evaluation_that_is_not_measured_again_is_missed(copy):
    """Killed between a round and its evaluation; the line before it is cut short as well."""
    path = copy / "run" / "evaluation.jsonl"
    path.write_bytes(path.read_bytes().split(b"\n")[0][:-7])
    manifest = copy / "run" / "manifest.jsonl"
    logged = [line for line in manifest.read_text().splitlines() if '"evaluation.jsonl"' in line]
    text = manifest.read_text()
    for line in logged[1:]:  # of round 0 alone
        text = text.replace(f"{line}\n", "")
    manifest.write_text(text)
    with pytest.raises(DamagedRun, match=r"evaluation\.jsonl has no line of round 0"):
        play(copy)


def test_a_half_written_last_line_of_the_metrics_is_dropped(copy):
    with (copy / "run/metrics.jsonl").open("ab") as file:
        file.write(b'{"round": 2, "st')
    play(copy)
    assert results(copy / "run") == results(copy / "whole")


def test_zeros_at_the_end_of_a_log_are_dropped(copy):
    """What some file systems leave of a write after a power loss."""
    with (copy / "run/metrics.jsonl").open("ab") as file:
        file.write(bytes(50))
    play(copy)
    assert results(copy / "run") == results(copy / "whole")


@pytest.mark.parametrize("log", ["metrics.jsonl", "timings.jsonl", "manifest.jsonl"])
def test_garbage_in_the_middle_is_refused(copy, log):
    path = copy / "run" / log
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:5] + b"\xff" + lines[1][9:]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DamagedRun, match=log):
        play(copy)


@pytest.mark.parametrize("name", ["manifest.jsonl", "inputs.json"])
def test_a_run_without_its_record_is_refused(copy, name):
    (copy / "run" / name).unlink()
    with pytest.raises(ONE_SENTENCE, match=r"nothing proves|does not say what it depends on"):
        play(copy)


@pytest.mark.parametrize("name", ["inputs.json", "config.yaml", "gates.json", "rounds/002/policies.json"])
def test_damaged_small_files_are_one_sentence(copy, name):
    run = copy / "whole"
    (run / name).write_text('{"a": [')
    with pytest.raises(ONE_SENTENCE, match=Path(name).name):
        play(copy, "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["evaluation.jsonl", "metrics.jsonl", "summary.json", "gates.json", "inputs.json"]
)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[[1]]\n", b'{"round": "x"}\n', b"{}\n"])
def test_reports_and_comparisons_of_damaged_folders_have_no_traceback(copy, name, content):
    run = copy / "whole"
    (run / name).write_bytes(content)
    for act in (lambda: write_report(run), lambda: compare([run, copy / "whole"])):
        try:
            act()
        except ValueError as refused:
            assert name in str(refused)


def test_a_changed_figure_is_not_reported(copy, capsys):
    path = copy / "whole/evaluation.jsonl"
    path.write_text(path.read_text().replace('"n": 2', '"n": 9'))
    with pytest.raises(SystemExit) as end:
        main(["report", str(copy / "whole")])
    assert end.value.code == 2
    assert "evaluation.jsonl is not as it was written" in capsys.readouterr().err


def test_evaluation_prompts_and_pairs_are_those_of_the_first_day(copy):
    """A resumed run measures with what it stored, whatever the data hold now."""
    data = copy / "pairs.jsonl"
    first = data.read_text().splitlines()
    data.write_text("\n".join(line.replace("Gladly", "Certainly") for line in first) + "\n")
    play_allowed(copy)
    mine, whole = ((copy / out / "evaluation/pairs.parquet").read_bytes() for out in ("run", "whole"))
    assert mine == whole


def play_allowed(folder: Path) -> None:
    align(
        "dpo",
        config=folder / "run/config.yaml",
        out=folder / "run",
        quiet=True,
        allow=["changed_data", "changed_rows"],
    )


# Full disks


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["safetensors", "parquet", "text", "log"])
def test_a_full_disk_is_one_sentence_and_the_run_resumes(copy, monkeypatch, writer):
    full = OSError(errno.ENOSPC, "No space left on device")

    class Foreign(Exception):
        """As safetensors raises it."""

    def fails(*args, **kwargs):
        raise Foreign("I/O error: No space left on device (os error 28)") if writer == "safetensors" else full

    import pyarrow.parquet

    if writer == "log":
        from equipoise.worlds.folder import manifest

        monkeypatch.setattr(manifest.os, "fsync", fails)
    else:
        where = {"safetensors": (safetensors.torch, "save_file"), "parquet": (pyarrow.parquet, "write_table")}
        monkeypatch.setattr(*where.get(writer, (Path, "write_text")), fails)
    with pytest.raises(
        OSError, match=r"disk full while writing .*free space and repeat the command: it resumes"
    ):
        play(copy)
    monkeypatch.undo()
    assert not list((copy / "run").rglob("*.partial"))
    play(copy)
    assert results(copy / "run") == results(copy / "whole")


# The manifest alone


def test_a_file_may_be_any_of_what_was_recorded_but_nothing_else(tmp_path):
    manifest, path = Manifest(tmp_path), tmp_path / "progress"
    for content in ("one", "two"):
        path.write_text(content)
        manifest.record(path)
    for content in ("one", "two"):
        path.write_text(content)
        Manifest(tmp_path).verify(path)
    path.write_text("three")
    with pytest.raises(DamagedRun):
        manifest.verify(path)
    path.unlink()
    with pytest.raises(DamagedRun, match="missing"):
        manifest.verify(path)
    manifest.forget(path)
    manifest.verify(path)


def test_a_damaged_file_is_not_entered_as_it_is_beside_a_new_one(tmp_path):
    manifest, folder = Manifest(tmp_path), tmp_path / "c"
    folder.mkdir()
    (folder / "weights").write_text("right")
    manifest.record(folder)
    (folder / "weights").write_text("wrong")
    (folder / "notes").write_text("new")
    manifest.ensure(folder)
    with pytest.raises(DamagedRun, match="weights"):
        manifest.verify(folder)


def test_another_process_sees_new_lines(tmp_path):
    first, second = Manifest(tmp_path), Manifest(tmp_path)
    (tmp_path / "a").write_text("a")
    second.verify(tmp_path / "a")
    first.record(tmp_path / "a")
    (tmp_path / "a").write_text("b")
    with pytest.raises(DamagedRun):
        second.verify(tmp_path / "a")
