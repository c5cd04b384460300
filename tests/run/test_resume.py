"""Killed and resumed = never killed, bit for bit on a CPU, wherever the process was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise.worlds.folder.manifest import Manifest

pytestmark = pytest.mark.slow
POINTS = (
    "sampling",
    "judging",
    "anchors",
    "mid_epoch",
    "inside_a_step",
    "progress",
    "checkpoint",
    "half_a_line",
    "manifest",
    "between_rounds",
    "evaluation",
    "report",
)
# points at which a run is broken off in every test run; the others at night
OFTEN = ("sampling", "mid_epoch", "inside_a_step", "half_a_line", "between_rounds", "evaluation")
FEW = {"between_rounds": 2, "report": 1}  # calls in a run of two rounds; of the others at least three


@pytest.fixture(scope="module", params=["spac", "inpo"])
def runs(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    driver = Path(__file__).with_name("resume_driver.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, str(driver), request.param, str(folder)],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file but timings, pictures of the environment, the manifest (which has a line for each time that a file
    was written), and the summary, which is compared apart."""
    passing = {"timings.jsonl", "environment.json", "summary.json", "manifest.jsonl", ".lock"}
    passing |= {f"verdicts.sqlite{end}" for end in ("", "-wal", "-shm")}  # SQLite writes times and counters
    passing |= {"judging.jsonl"}  # which verdicts a process asked for, and which it found in the store
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name not in passing
    }


def summary(folder: Path) -> dict[str, object]:
    figures = json.loads((folder / "summary.json").read_text())
    return {name: value for name, value in figures.items() if name not in ("seconds", "tokens")}


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point in OFTEN else pytest.mark.nightly) for point in POINTS]
)
def test_killed_and_resumed_is_never_killed(runs, point):
    codes = json.loads((runs / "codes.json").read_text())
    assert codes["whole"] == [0]
    assert codes[point] == [-signal.SIGKILL, 0]
    whole, resumed = content(runs / "whole"), content(runs / point)
    assert {"metrics.jsonl", "evaluation.jsonl", "samples.jsonl", "checks.jsonl"} <= whole.keys()
    assert "checkpoints/round-002/model.safetensors" in whole
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if whole[name] != resumed[name]] == []
    assert summary(runs / "whole") == summary(runs / point)
    for name in resumed:
        Manifest(runs / point).verify(runs / point / name)
    assert len(json.loads((runs / point / "environment.json").read_text())) == 2  # both processes


def test_the_kills_were_where_they_should_be(runs):
    """Enough happens on both sides of every point for the comparison to mean something."""
    counts = json.loads((runs / "counts.json").read_text())
    assert all(counts[name] >= FEW.get(name, 3) for name in POINTS), counts
    steps = [json.loads(line) for line in (runs / "whole" / "metrics.jsonl").read_text().splitlines()]
    killed_at = steps[counts["mid_epoch"] // 2 + 5 - 1]
    assert (killed_at["round"], killed_at["step"]) == (2, 5), "a position was saved at step 4"


def test_training_moved_the_policy(runs):
    rounds = [
        (runs / "whole" / "checkpoints" / name / "model.safetensors").read_bytes()
        for name in ("initial", "round-001", "round-002")
    ]
    assert len(set(rounds)) == 3


def test_a_finished_run_is_not_played_again(runs):
    """The driver called `align` once more on the finished folder: every point was compared after that."""
    assert json.loads((runs / "codes.json").read_text())["again"] == [0]
    lines = (runs / "whole" / "evaluation.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1, 2]
