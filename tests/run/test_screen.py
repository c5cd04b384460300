"""Screen of a run: time left by hand, what a terminal shows, few lines in a log, the verdict in words, no markup."""

from __future__ import annotations

import io
import json
import time

import pytest
from rich.console import Console

from equipoise.report.run.load import load_run
from equipoise.run.screen import screen
from equipoise.run.screen.forecast import Forecast
from equipoise.run.screen.live import LiveScreen
from equipoise.run.screen.plain import PlainLines
from equipoise.run.screen.verdict import print_closing, verdict
from equipoise.run.screen.wording import (
    cost_words,
    fitting,
    phase_words,
    ratio_words,
    round_words,
    step_words,
)
from equipoise.worlds.text.progress import Callback, Phase, Progress

ABOUT = {
    "method": "dpo",
    "title": "Direct",
    "rounds": 3,
    "done": 0,
    "steps": 10,
    "seconds": None,
    "folder": "x",
    "phase": None,
    "settings": {},
}
STEP = {
    "round": 1,
    "step": 4,
    "loss": 0.5,
    "margin": 0.25,
    "chosen_log_ratio": 0.1,
    "rejected_log_ratio": -0.15,
}
RATED = {
    "round": 1,
    "win_rate": {"value": 0.625, "low": 0.55, "high": 0.7},
    "kl": {"value": 0.5},
    "length": {"value": 7},
}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def phase(name, total, done, seconds, unit="steps"):
    """A phase that has run for so many seconds."""
    made = Phase(1, name, total, unit)
    made.started = time.perf_counter() - seconds
    made.done = done
    return made


def test_later_rounds_take_as_long_as_the_last_one():
    clock = Clock()
    forecast = Forecast(clock)
    forecast.run_started(ABOUT)
    assert forecast.left() is None and forecast.share() == 0
    clock.now += 10  # the starting policy is evaluated
    forecast.round_done({"round": 0})
    clock.now += 40
    forecast.round_done({"round": 1})
    assert forecast.left() == pytest.approx(80)
    assert forecast.share() == pytest.approx(50 / 130)
    clock.now += 30
    assert forecast.left() == pytest.approx(50)
    clock.now += 30  # this round is slower: what is left of it is not negative
    assert forecast.left() == pytest.approx(40)
    forecast.round_done({"round": 2})
    forecast.round_done({"round": 3})
    assert forecast.left() == 0 and forecast.share() == 1


def test_in_the_first_round_training_counts_by_its_own_pace_and_evaluation_by_that_of_round_0():
    clock = Clock()
    forecast = Forecast(clock)
    forecast.run_started(ABOUT | {"rounds": 1, "seconds": 100.0})
    before = phase("evaluating", 8, 8, 20)
    forecast.phase_started(before)
    forecast.phase_ended(before)
    clock.now += 20
    forecast.round_done({"round": 0})
    assert forecast.left() == pytest.approx(
        120 + 120 * (3 + 1 + 1 + 0.1) / 6, rel=0.01
    )  # others: their usual shares
    training = phase("training", 10, 4, 8)  # 2 s a step
    forecast.phase_started(training)
    clock.now += 8
    # 12 s of training, 20 of evaluation, and writing: 0.1 of 6 usual parts of what is known, 40 s
    assert forecast.left() == pytest.approx(12 + 20 + 40 * 0.1 / 6, rel=0.01)


def test_phases_of_a_run_have_one_share_of_the_whole():
    """One round of SFT and two of DPO: what is not played yet counts as long as what is."""
    clock = Clock()
    forecast = Forecast(clock)
    forecast.run_started(ABOUT | {"phase": "sft", "whole": "dpo", "after": 2, "rounds": 1})
    clock.now += 10
    forecast.round_done({"round": 0})
    clock.now += 30
    forecast.round_done({"round": 1})
    assert forecast.left() == pytest.approx(60) and forecast.share() == pytest.approx(0.4)
    clock.now += 10  # the model is loaded again
    forecast.run_started(ABOUT | {"rounds": 2, "whole": "dpo", "after": 0})
    assert forecast.share() == pytest.approx(0.4)  # nothing is known of its rounds yet
    clock.now += 5
    forecast.round_done({"round": 0})
    clock.now += 20
    forecast.round_done({"round": 1})
    assert forecast.left() == pytest.approx(20) and forecast.share() == pytest.approx(75 / 95)
    forecast.round_done({"round": 2})
    assert forecast.left() == 0 and forecast.share() == 1
    forecast.run_started(ABOUT)
    assert forecast.share() == 0


def test_a_phase_stands_before_what_it_does_under_the_bar_of_the_whole_run(capsys):
    out = io.StringIO()
    live = LiveScreen(Console(file=out, width=80, force_terminal=True, color_system=None))
    about = ABOUT | {"method": "sft", "phase": "sft", "whole": "dpo", "after": 1, "rounds": 1}
    live.run_started(about)
    live.phase_started(phase("training", 10, 4, 8))
    assert live.state(80).startswith("sft: training 4/10 steps")
    live.live.refresh()
    live.round_done(RATED)
    live.run_started(ABOUT)
    live.phase_started(phase("training", 10, 4, 8))
    assert live.state(80).startswith("training 4/10 steps")
    live.close(failed=False)
    shown = out.getvalue()
    assert "dpo  sft: round 1 of 1" in shown and "sft: round 1" in shown and "dpo  round 1 of 3" in shown
    plain = PlainLines()
    plain.run_started(about)
    plain.round_done(RATED)
    plain.run_started(ABOUT)
    plain.round_done(RATED)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("sft:  round 1") and second.startswith("round 1")


def test_the_bar_never_goes_back():
    clock = Clock()
    forecast = Forecast(clock)
    forecast.run_started(ABOUT | {"rounds": 1})
    forecast.round_done({"round": 0})
    forecast.phase_started(fast := phase("training", 10, 9, 9))
    clock.now += 9
    high = forecast.share()
    fast.started -= 1000  # it has become slow
    assert forecast.left() > 100 and forecast.share() == high > 0.2


def test_a_resumed_fit_has_the_pace_of_this_process():
    resumed = Phase(1, "training", 100, "steps")
    resumed.resume(90)
    resumed.started -= 10
    resumed.tick(5)
    assert resumed.rate == pytest.approx(0.5, rel=0.01) and phase_words(resumed) == "training 95/100 steps"
    resumed.all_tokens = 1000  # ten a step
    assert resumed.token_rate == pytest.approx(5, rel=0.01)


def test_words_of_a_step_and_of_a_round():
    assert list(step_words(STEP, {"accuracy": 0.71})) == [
        "loss 0.500",
        "margin 0.250",
        "accuracy 71.0 %",
    ]
    assert list(ratio_words(STEP)) == ["chosen +0.100 rejected −0.150"]
    assert list(ratio_words({"chosen_log_ratio": 0.0})) == ["chosen 0"]
    assert list(step_words({"loss": 1.0, "kl": 0.2}, {})) == ["loss 1.00", "KL 0.200"]
    assert list(step_words({"round": 1}, {})) == []
    assert round_words(RATED) == "round 1  win rate 62.5 % (55–70)  KL 0.500  length 7.00"
    assert round_words({"round": 2}) == "round 2  done, not evaluated"
    # of a policy against itself the win rate and the KL are known
    assert round_words({**RATED, "round": 0}) == "round 0  before training  length 7.00"
    sampling = phase("sampling", 8, 4, 2, "prompts")
    sampling.tokens = 3000
    assert list(cost_words(sampling, 2.0**30)) == ["1,500 tokens/s", "peak 1.0 GiB"]


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_a_line_fits(width):
    line = fitting(["training 4/10 steps", "loss 0.500", "x" * 90, "margin 0.250"], width)
    assert len(line) <= width and line.startswith("training 4/10 steps")
    assert ("margin" in line) == (width >= 45) and "xx" not in line


def terminal(width=80):
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=30, color_system=None)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_one_bar_and_one_line(width):
    console = terminal(width)
    live = LiveScreen(console)
    live.run_started(ABOUT)
    live.round_done({"round": 0})
    training = phase("training", 10, 4, 8)
    training.all_tokens = 1000
    live.phase_started(training)
    live.step(STEP)
    live.live.stop()
    live.forecast.reached = 0.5
    drawn = terminal(width)
    drawn.print(live)
    bar, line = drawn.file.getvalue().splitlines()
    assert bar.startswith("dpo  round 1 of 3  ━") and bar.rstrip().endswith("left") and len(bar) <= width
    assert line.startswith("training 4/10 steps  loss 0.500  margin 0.250") and len(line) <= width
    assert "50 tokens/s" in line
    assert ("peak" in line) == (width > 60) and ("chosen" in line) == (width > 80)


def test_nothing_from_outside_is_markup_or_steers_the_terminal():
    console = terminal()
    live = LiveScreen(console)
    live.run_started(ABOUT | {"method": "[red]x[/red]\x1b]0;title\x07"})
    live.phase_started(Phase(0, "[bold]ju\x1b[2Jdge", 3, "questions"))
    live.round_done({"round": 1, "win_rate": {"value": 0.5, "low": None, "high": None}})
    live.close(failed=True)
    shown = console.file.getvalue()
    assert "[red]x[/red]\\x1b" in shown and "[bold]ju\\x1b" in shown
    assert "\x1b]0" not in shown and "\x1b[2J" not in shown


def test_a_failed_run_says_where_it_stood():
    console = terminal()
    live = LiveScreen(console)
    live.run_started(ABOUT)
    live.phase_started(phase("training", 10, 4, 8))
    live.step(STEP)
    live.close(failed=True)
    assert "stopped: training 4/10 steps  loss 0.500" in console.file.getvalue()


def test_a_log_has_few_lines(capsys):
    lines = PlainLines()
    progress = Progress(callbacks=[lines])
    progress.run_started(ABOUT)
    with progress.phase(1, "judging", None, "questions") as brief:
        for _ in range(1000):
            brief.tick()
    with progress.preparing("the optimizer"):
        pass
    assert capsys.readouterr() == ("", "")  # shorter than a second
    with progress.phase(1, "training", 10, "steps") as long:
        long.started -= 30
        lines.shown -= 21
        progress.step(STEP)
        long.tick(3)
        long.tick(3)  # within the next 20 s
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "0:01:10 left" in said[0] and said[0].count("loss 0.500") == 1
    assert "training 6/10 steps" in said[1]
    progress.round_done(RATED)
    assert capsys.readouterr().err.startswith("round 1  win rate 62.5 % (55–70)")


def test_what_loads_is_said_in_a_log_before_the_rounds(capsys):
    progress = Progress(callbacks=[PlainLines()])
    with progress.preparing("loading the model"):
        assert capsys.readouterr().err == "loading the model ...\n"


def test_a_quiet_run_has_no_callbacks(capsys):
    with screen(quiet=True) as shown:
        assert shown == []
    with screen() as shown:  # no terminal here
        assert [type(one) for one in shown] == [PlainLines]


def test_callbacks_hear_everything_in_order_and_phases_are_recorded_once():
    heard, recorded = [], []

    class Hearing(Callback):
        def phase_started(self, phase):
            heard.append(("begins", phase.name))

        def phase_ended(self, phase):
            heard.append(("ends", phase.name, phase.done))

        def step(self, line):
            heard.append(line["step"])

    progress = Progress(lambda *about: recorded.append(about[:2]), [Hearing(), Hearing()])
    with progress.preparing("loading"):
        pass
    with progress.phase(2, "training", 1, "steps") as training:
        progress.step(STEP)
        training.tick()
    progress.finished({})
    assert heard[::2] == [
        ("begins", "loading"),
        ("ends", "loading", 0),
        ("begins", "training"),
        4,
        ("ends", "training", 1),
    ]
    assert heard[::2] == heard[1::2] and recorded == [(2, "training")]


def run_folder(folder, **last):
    folder.mkdir()
    lines = [{"round": 0}, {"round": 1, **last}]
    (folder / "evaluation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text("method: dpo\n")
    return folder


def share(value, low, high, n=60):
    return {"value": value, "low": low, "high": high, "n": n}


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ({"win_rate": share(0.7, 0.6, 0.8)}, "The policy beats its reference: win rate 70.0 %"),
        ({"win_rate": share(0.3, 0.2, 0.4)}, "The policy loses to its reference"),
        ({"win_rate": share(0.55, 0.4, 0.7)}, "is not told apart from its reference"),
        ({"accuracy": share(0.8, 0.7, 0.9)}, "The policy learned the preferences: it ranks 80.0 %"),
        (
            {"accuracy": share(1.0, 0.476, 1.0, 6)},
            "of 6 held-out pairs as they were labelled, too few to tell it from",
        ),
        ({"accuracy": share(0.2, 0.1, 0.3)}, "learned the opposite"),
        ({"exact_win_rate": 0.66}, "it wins 66.0 %, computed exactly"),
        ({}, "Nothing that was measured says whether it learned"),
    ],
)
def test_the_verdict_says_in_words_whether_it_learned(tmp_path, last, says):
    run = load_run(run_folder(tmp_path / "run", **last))
    assert says in " ".join(verdict(run))


def test_the_closing_table_has_no_column_without_data(tmp_path):
    folder = run_folder(tmp_path / "run", accuracy=share(0.8, 0.7, 0.9), kl=share(0.5, 0.4, 0.6))
    console = Console(file=io.StringIO(), width=80)
    print_closing(folder, console)
    shown = " ".join(console.file.getvalue().split())
    assert "held-out accuracy" in shown and "0.500 nats of KL" in shown
    assert "exploitability" not in shown and "win rate" not in shown and "–  " not in shown
    assert "before" not in shown  # nothing was measured before
    assert "evaluation" not in shown  # no time of one was recorded


def test_the_closing_table_says_what_evaluation_cost(tmp_path):
    folder = run_folder(tmp_path / "run", accuracy=share(0.8, 0.7, 0.9))
    lines = [
        {"round": 1, "phase": phase, "seconds": seconds, "tokens": 0}
        for phase, seconds in (("training", 60.0), ("evaluating", 15.0), ("evaluating", 5.0))
    ]
    (folder / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    console = Console(file=io.StringIO(), width=80)
    print_closing(folder, console)
    assert "time 1 min 20 s, evaluation 25.0 % of it" in " ".join(console.file.getvalue().split())
