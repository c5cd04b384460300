"""Runs in a world of labelled examples: folder, resume to the byte, refusals, report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from equipoise.run.config import ConfigError
from equipoise.run.session import align
from equipoise.run.worlds import fits, listing

BRIEF = {"task.fits": 3, "epochs": 2, "width": 8}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    np.savez(tmp_path / "own.npz", x=rng.normal(size=(60, 5)) + y[:, None], y=y, typical=rng.normal(size=60))
    return tmp_path / "own.npz"


def run(own: Path, out: Path, method: str = "ldr", **settings: object) -> fits.Run:
    given = {"task.file": str(own), **BRIEF, **settings}
    return align(method, world="examples", out=out, settings=given, quiet=True)


def contents(folder: Path) -> dict[str, bytes]:
    kept = [
        *folder.glob("rounds/*/*"),
        *folder.glob("checkpoints/*/*"),
        folder / "summary.json",
        folder / "config.yaml",
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if path.is_file()}


def test_a_killed_run_goes_on_to_the_same_bytes(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = run(own, tmp_path / "whole")
    assert set(whole.summary["figures"]) == {"accuracy", "ece", "nll"} and whole.checkpoint.is_dir()
    made = []
    original = fits.write_json

    def killed(path: Path, value: object) -> None:
        if path.parent.name == "002" and not made:
            made.append(path)
            raise KeyboardInterrupt
        original(path, value)

    monkeypatch.setattr(fits, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        run(own, tmp_path / "killed")
    assert (tmp_path / "killed/rounds/001/outcome.json").exists()
    assert not (tmp_path / "killed/rounds/002/outcome.json").exists()
    first = (tmp_path / "killed/rounds/001/outcome.json").stat().st_mtime_ns
    run(own, tmp_path / "killed")
    assert (tmp_path / "killed/rounds/001/outcome.json").stat().st_mtime_ns == first
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_other_settings_data_or_a_damaged_fit_are_refused(own: Path, tmp_path: Path):
    run(own, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"recipe\.loss\.temperature: 10\.0 -> 1\.0"):
        run(own, tmp_path / "run", temperature=1.0)
    arrays = dict(np.load(own))
    np.savez(own, **arrays | {"x": arrays["x"] + 1})
    with pytest.raises(ConfigError, match="other settings or data:\n  data: "):
        run(own, tmp_path / "run")
    np.savez(own, **arrays)
    outcome = tmp_path / "run/rounds/002/outcome.json"
    outcome.write_text(outcome.read_text().replace("accuracy", "accurate"))
    with pytest.raises(ValueError, match=r"outcome\.json"):
        run(own, tmp_path / "run")


@pytest.mark.parametrize(
    ("method", "world", "given", "said"),
    [
        ("dpo", "examples", {}, "no method of labelled examples 'dpo'"),
        ("ldr", "examples", {}, r"needs task\.file=FILE"),
        ("ldr", "examples", {"settings": {"task.file": "nowhere.npz"}}, "there is no file nowhere.npz"),
        ("ldr", "examples", {"settings": {"lamda": 1}}, "no setting 'lamda'"),
        ("ldr", "examples", {"settings": {"task.share": 2}}, r"share must lie in \(0, 1\)"),
        ("ldr", "examples", {"model": "x"}, "not for a world of labelled examples: model"),
        ("ldr", "examples", {"rounds": 3}, "not for a world of labelled examples: rounds"),
        ("ldr", "numbers", {}, "no world 'numbers'"),
    ],
)
def test_what_cannot_be_run_is_refused_without_a_folder(
    method: str, world: str, given: dict[str, object], said: str, tmp_path: Path
):
    with pytest.raises(ConfigError, match=said):
        align(method, world=world, out=tmp_path / "run", quiet=True, **given)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_method_that_reads_what_the_data_lack_says_so(own: Path, tmp_path: Path):
    settings = {"task.file": str(own), "epochs": 1}
    with pytest.raises(ValueError, match="no images"):
        align("contrastive", world="examples", out=tmp_path / "run", settings=settings, quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_configuration_of_a_run_runs_again(own: Path, tmp_path: Path):
    run(own, tmp_path / "run", "aldr", centre=1.0)
    again = align(
        "aldr", world="examples", config=tmp_path / "run/config.yaml", out=tmp_path / "again", quiet=True
    )
    first = json.loads((tmp_path / "run/summary.json").read_text())
    assert again.summary["figures"] == first["figures"] and again.summary["hash"] == first["hash"]


def test_the_report_has_figures_with_intervals_and_a_curve(own: Path, tmp_path: Path):
    page = run(own, tmp_path / "run").report.read_text()
    assert "Accuracy of held-out examples" in page and "expected calibration error" in page
    assert "jsonl is missing" not in page
    one = run(own, tmp_path / "one", **{"task.fits": 1})
    assert one.summary["figures"]["accuracy"]["low"] is None


def test_worlds_of_examples_are_listed_with_what_they_play():
    found = {one["name"]: one for one in listing.listed()}
    assert "p2c" in found["diabetes"]["methods"] and "p2c" not in found["digits"]["methods"]
    assert "isogclr" in found["digits"]["methods"] and found["digits"]["extra"] == "classify"
