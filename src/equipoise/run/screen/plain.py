"""Plain lines of a run's progress, for logs and pipes: one line at a phase's end, and one every 20 s within."""

from __future__ import annotations

import sys
import time

from equipoise.run.screen.wording import left, pace
from equipoise.worlds.text.progress import Callback, Line, Phase

PAUSE = 20.0  # seconds between two lines of one phase


class PlainLines(Callback):
    """Prints to standard error."""

    def __init__(self) -> None:
        self.shown = time.perf_counter()
        self.rounds = 0
        self.begun: tuple[int, float] | None = None

    def run_started(self, about: Line) -> None:
        self.rounds, self.begun = int(about["rounds"]), None

    def phase_started(self, phase: Phase) -> None:
        self.shown = time.perf_counter()

    def phase_advanced(self, phase: Phase) -> None:
        if time.perf_counter() - self.shown > PAUSE:
            self._show(phase)

    def phase_ended(self, phase: Phase) -> None:
        self._show(phase, last=True)

    def round_done(self, line: Line) -> None:
        now, done = time.perf_counter(), int(line["round"])
        if self.begun is None:
            self.begun = done, now
        elif done < self.rounds:
            rate = (done - self.begun[0]) / (now - self.begun[1])
            _say(
                f"round {done} of {self.rounds} is done; about {left(self.rounds - done, rate)} left of the run"
            )

    def _show(self, phase: Phase, last: bool = False) -> None:
        self.shown = time.perf_counter()
        seconds = phase.seconds
        rate = (phase.done - phase.begun) / seconds if seconds > 0 else 0.0
        of = "" if phase.total is None else f"/{phase.total}"
        where = f"round {phase.round}  {phase.name}" if phase.unit else phase.name
        line = f"{where:<22} "
        if phase.unit:
            line += f"{phase.done}{of} {phase.unit}  {pace(rate)}  "
        ended = last or phase.total is None
        _say(line + (f"{seconds:.1f} s" if ended else f"{left((phase.total or 0) - phase.done, rate)} left"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
