"""Experiment trackers: what they are told, in order, also of a resumed run; real ones read back where installed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import types
from contextlib import closing
from importlib.util import find_spec

import pytest

import equipoise as eq
from equipoise.connect.trackers import SINKS, Tracker, check_installed
from equipoise.run.callbacks import CallbackError
from equipoise.run.config import ConfigError

SETTINGS = {
    "evaluate.prompts": 2,
    "evaluate.samples": 1,
    "train.batch": 8,
    "data.pairs": 64,
    "sampling.max_new_tokens": 9,
}


def play(out, track, **more):
    return eq.align("dpo", out=out, settings=SETTINGS | {"track": track}, quiet=True, **more)


def logged(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


class Sink:
    def __init__(self):
        self.told, self.closed = [], 0

    def log(self, figures, step):
        self.told.append((step, dict(figures)))

    def close(self):
        self.closed += 1


def test_figures_have_names_and_a_place(tmp_path):
    sink = Sink()
    tracker = Tracker(lambda folder, settings: sink)
    (tmp_path / "metrics.jsonl").write_text('{"round": 1, "fit": "policy", "step": 1}\n' * 3)
    tracker.run_started({"folder": tmp_path, "phase": None, "settings": {"train": {"lr": 0.1}, "seed": 0}})
    tracker.round_done({"round": 0, "win_rate": {"value": 0.5, "low": 0.4, "high": 0.6}, "accuracy": None})
    tracker.step({"round": 2, "fit": "policy", "step": 1, "loss": 0.7, "grad_norm": float("nan"), "ok": True})
    tracker.evaluated({"round": 2, "step": 1, "accuracy": 0.9})
    tracker.close()
    tracker.close()
    assert sink.told == [
        (0, {"round/win_rate": 0.5}),
        (4, {"train/loss": 0.7}),  # three steps of the first round came before
        (4, {"held_out/accuracy": 0.9}),
    ]
    assert sink.closed == 1


def test_a_phase_before_the_rounds_has_its_name_in_front(tmp_path):
    sink, opened = Sink(), []
    tracker = Tracker(lambda folder, settings: opened.append((folder, settings)) or sink)
    about = {"settings": {"play": {"rounds": 1}}}
    tracker.run_started(about | {"folder": tmp_path / "phases" / "sft", "phase": "sft"})
    tracker.step({"round": 1, "step": 1, "loss": 2.0})
    tracker.run_started(about | {"folder": tmp_path, "phase": None})
    tracker.step({"round": 1, "step": 1, "loss": 1.0})
    assert sink.told == [(1, {"sft/train/loss": 2.0}), (2, {"train/loss": 1.0})]
    assert opened == [(tmp_path, {"play.rounds": 1})]


def fake(monkeypatch, name):
    """A module in place of the tracker's library, which keeps what it is told."""
    sink = Sink()
    run = types.SimpleNamespace(log=lambda figures, step: sink.log(figures, step), finish=sink.close)
    module = types.ModuleType(name)
    module.__spec__ = types.SimpleNamespace(name=name)
    module.init = lambda **options: sink.__setattr__("options", options) or run
    module.finish = sink.close
    monkeypatch.setitem(sys.modules, name, module)
    return sink


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_run_tells_its_tracker_what_its_logs_hold(name, tmp_path, monkeypatch):
    sink = fake(monkeypatch, name)
    run = play(tmp_path / "mine", name)
    losses = [(step, figures["train/loss"]) for step, figures in sink.told if "train/loss" in figures]
    assert losses == [(k, line["loss"]) for k, line in enumerate(logged(run), 1)]
    assert sink.options["name"] == "mine" and sink.options["config"]["train.batch"] == 8
    assert sink.closed == 1
    assert play(tmp_path / "mine", []).summary == run.summary  # another tracker is no other run


def test_a_tracker_that_fails_ends_the_run_by_name_and_is_closed(tmp_path, monkeypatch):
    sink = fake(monkeypatch, "trackio")
    sink.log = lambda figures, step: (_ for _ in ()).throw(ConnectionError("no network"))
    with pytest.raises(CallbackError, match="no network; the same call resumes the run"):
        play(tmp_path / "run", ["trackio"])
    assert sink.closed == 1


def test_what_is_not_installed_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("equipoise.connect.trackers.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"wandb is not installed; .*'equipoise\[track\]' wandb"):
        play(tmp_path / "run", ["wandb"])
    assert not list(tmp_path.iterdir())
    check_installed([])


@pytest.mark.slow
def test_tensorboard_reads_back_what_the_run_logged(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = play(tmp_path / "run", "tensorboard")
    read = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    scalars = {event.step: event.value for event in read.Scalars("train/loss")}
    assert scalars == pytest.approx({k: line["loss"] for k, line in enumerate(logged(run), 1)})
    assert read.Scalars("round/accuracy")[-1].value == pytest.approx(run.rounds[-1].accuracy.value)


CODE = """
import sys, equipoise as eq
eq.align("dpo", out=sys.argv[1], settings={SETTINGS} | {{"track": "trackio"}}, quiet=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is an optional dependency")
def test_trackio_reads_back_what_the_run_logged(tmp_path):
    out = tmp_path / "mine"
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(SETTINGS=SETTINGS), str(out)],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")},
        check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    [database] = (tmp_path / "trackio").rglob("*.db")
    with closing(sqlite3.connect(database)) as opened:
        rows = opened.execute("select step, metrics from metrics order by step").fetchall()
    found = {step: told["train/loss"] for step, text in rows if "train/loss" in (told := json.loads(text))}
    assert found == pytest.approx({k: line["loss"] for k, line in enumerate(logged(eq.load_run(out)), 1)})


def test_every_tracker_that_the_setting_names_is_known():
    from typing import get_args

    from equipoise.run.settings import RunConfig

    [names] = get_args(RunConfig.model_fields["track"].annotation)
    assert set(get_args(names)) == SINKS.keys()
