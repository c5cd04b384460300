"""Plain lines of a run's progress, for logs and pipes: few, and none more often than every 20 s within a phase."""

from __future__ import annotations

import sys
import time

from equipoise.run.screen.forecast import Forecast
from equipoise.run.screen.peak import peak
from equipoise.run.screen.wording import (
    GAP,
    clock,
    cost_words,
    left,
    pace,
    part_words,
    phase_words,
    ratio_words,
    round_words,
    step_words,
)
from equipoise.worlds.text.progress import Callback, Line, Phase

PAUSE = 20.0  # seconds between two lines of one phase
BRIEF = 1.0  # seconds; a phase that took less has no line of its own


class PlainLines(Callback):
    """Prints to standard error."""

    def __init__(self) -> None:
        self.forecast = Forecast()
        self.shown = time.perf_counter()
        self.last: Line = {}
        self.held: Line = {}
        self.begun = False
        self.part = ""

    def run_started(self, about: Line) -> None:
        self.begun = True
        self.part = part_words(about)
        self.forecast.run_started(about)

    def phase_started(self, phase: Phase) -> None:
        self.forecast.phase_started(phase)
        self.shown, self.last, self.held = time.perf_counter(), {}, {}
        if not phase.unit and not self.begun:  # before the rounds: each takes long once
            say(f"{phase_words(phase)} ...")

    def phase_advanced(self, phase: Phase) -> None:
        if time.perf_counter() - self.shown > PAUSE:
            rest = "" if phase.total is None else f"{left(phase.total - phase.done, phase.rate)} left"
            self._show(phase, rest or f"{phase.seconds:.0f} s")

    def phase_ended(self, phase: Phase) -> None:
        self.forecast.phase_ended(phase)
        if phase.unit and phase.seconds >= BRIEF:
            self._show(phase, f"{phase.seconds:.1f} s")

    def step(self, line: Line) -> None:
        self.last = line

    def evaluated(self, line: Line) -> None:
        self.held = line

    def round_done(self, line: Line) -> None:
        self.forecast.round_done(line)
        remaining = self.forecast.left() if line["round"] else None
        said = GAP.join(filter(None, (self.part, round_words(line))))
        say(said + (f"{GAP}about {clock(remaining)} left of the run" if remaining else ""))

    def _show(self, phase: Phase, ending: str) -> None:
        self.shown = time.perf_counter()
        where = f"round {phase.round}" if phase.round or phase.name in ("evaluating", "judging") else ""
        where = " ".join(filter(None, (self.part, where)))
        parts = [f"{where:<9}", phase_words(phase), pace(phase.rate), ending]
        if self.last:
            parts += [*step_words(self.last, self.held), *ratio_words(self.last), *cost_words(phase, peak())]
        say(GAP.join(parts))


def say(line: str) -> None:
    """Print one line to standard error, now."""
    print(line, file=sys.stderr, flush=True)
