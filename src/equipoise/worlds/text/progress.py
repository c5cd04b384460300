"""Progress lines on the terminal: position in a phase, rate, and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """One progress line per phase: redrawn in place on a terminal, printed every 20 s in a log.

    Finished phases are handed to `record(round, phase, seconds, tokens)`.
    """

    def __init__(
        self, record: Callable[[int, str, float, int], None] | None = None, *, quiet: bool = False
    ) -> None:
        self.record = record
        self.quiet = quiet
        self.live = sys.stderr.isatty()

    @contextmanager
    def phase(self, round: int, name: str, total: int | None, unit: str) -> Iterator[Phase]:
        """One phase of `total` units; None: it is not known how many there will be."""
        phase = Phase(self, f"round {round}  {name}", total, unit)
        yield phase
        phase.show(last=True)
        if self.record:
            self.record(round, name, time.perf_counter() - phase.started, phase.tokens)


class Phase:
    """One phase; `tick(n)` advances by n units, and callers may add to `tokens`."""

    def __init__(self, owner: Progress, title: str, total: int | None, unit: str) -> None:
        self.owner, self.title, self.total, self.unit = owner, title, total, unit
        self.started = self.shown = time.perf_counter()
        self.done = 0
        self.tokens = 0

    def tick(self, count: int = 1) -> None:
        self.done += count
        pause = 0.2 if self.owner.live else 20.0
        if time.perf_counter() - self.shown > pause:
            self.show()

    def show(self, last: bool = False) -> None:
        if self.owner.quiet:
            return
        self.shown = time.perf_counter()
        seconds = self.shown - self.started
        rate = self.done / seconds if seconds > 0 else 0.0
        of = "" if self.total is None else f"/{self.total}"
        line = f"{self.title:<22} {self.done}{of} {self.unit}  {_pace(rate)}"
        line += (
            f"  {seconds:.1f} s"
            if last or self.total is None
            else f"  {_left(self.total - self.done, rate)} left"
        )
        if self.owner.live:
            print(f"\r{line:<78}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _pace(rate: float) -> str:
    """Units per second, or seconds per unit where that says more."""
    return f"{1 / rate:.1f} s each" if 0 < rate < 0.5 else f"{rate:.1f}/s"


class Left:
    """Time left of a whole run, told at the end of each round by those that this process has played."""

    def __init__(self, rounds: int, *, quiet: bool = False) -> None:
        self.rounds, self.quiet = rounds, quiet
        self.begun: tuple[int, float] | None = None

    def tell(self, done: int) -> None:
        now = time.perf_counter()
        if self.begun is None:
            self.begun = done, now
        elif not self.quiet and done < self.rounds:
            rate = (done - self.begun[0]) / (now - self.begun[1])
            left = _left(self.rounds - done, rate)
            print(
                f"round {done} of {self.rounds} is done; about {left} left of the run",
                file=sys.stderr,
                flush=True,
            )


def _left(count: int, rate: float) -> str:
    if rate == 0:
        return "?"
    left = round(count / rate)
    return f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
