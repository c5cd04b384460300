"""Callbacks given to `align`: told of the run in order; one that raises ends it by name, and the run is resumed."""

from __future__ import annotations

import json

import pytest

import equipoise as eq
from equipoise.run.callbacks import CallbackError
from equipoise.run.config import ConfigError

SETTINGS = {
    "evaluate.prompts": 2,
    "evaluate.samples": 1,
    "train.batch": 8,
    "data.pairs": 64,
    "sampling.max_new_tokens": 9,
}


def play(out, *callbacks):
    return eq.align("dpo", out=out, settings=SETTINGS, callbacks=callbacks, quiet=True)


class Told(eq.Callback):
    def __init__(self):
        self.events = []

    def run_started(self, about):
        self.events.append("started")

    def step(self, line):
        self.events.append(("step", line))

    def round_done(self, line):
        self.events.append(("round", line["round"]))

    def finished(self, summary):
        self.events.append(("finished", summary["method"]))


class FailsOnce:
    """Any object: what it has no method for it is not told."""

    def __init__(self):
        self.failed = False

    def step(self, line):
        if line["step"] == 2 and not self.failed:
            self.failed = True
            raise KeyError("loss")


def lines(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_callback_is_told_of_the_run_in_order(tmp_path):
    told = Told()
    run = play(tmp_path / "run", told)
    steps = [event[1] for event in told.events if event[0] == "step"]
    assert steps == lines(run)
    rest = [event for event in told.events if event[0] != "step"]
    assert rest == ["started", ("round", 0), ("round", 1), ("finished", "dpo")]


@pytest.mark.slow
def test_a_callback_that_raises_is_named_and_the_run_goes_on_with_the_same_call(tmp_path):
    failing = FailsOnce()
    with pytest.raises(CallbackError, match=r"test_callbacks\.FailsOnce failed in step: KeyError: 'loss'"):
        play(tmp_path / "run", failing)
    resumed, whole = play(tmp_path / "run", failing), play(tmp_path / "whole")
    weights = [(run.checkpoint / "model.safetensors").read_bytes() for run in (resumed, whole)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("callback", "said"), [(3, "has none of the methods"), (Told, "is a class; give an object")]
)
def test_what_hears_nothing_is_refused(tmp_path, callback, said):
    with pytest.raises(ConfigError, match=said):
        play(tmp_path / "run", callback)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("callbacks", [None, Told(), "told"])
def test_callbacks_that_are_no_list_are_refused(tmp_path, callbacks):
    with pytest.raises(ConfigError, match=r"callbacks is of type .*; give a list of objects"):
        eq.align("dpo", out=tmp_path / "run", callbacks=callbacks, quiet=True)
    assert not list(tmp_path.iterdir())
