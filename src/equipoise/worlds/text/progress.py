"""Progress of a run: the protocol of callbacks, and the phases and measurements that they are told.

A callback is what follows a run from outside: the screen, a tracker, a user's own object. It is told plain records, the
lines of the run folder's logs, and can change nothing of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

Line = Mapping[str, Any]


class Callback(Protocol):
    """Callback of a run. A class that inherits it overrides what it wants to hear; the rest does nothing.

    It is called in the first process only, in the order of the run. What it raises ends the run.
    """

    def run_started(self, about: Line) -> None:
        """A run begins or is resumed: method, title, rounds, done (rounds finished before), steps (of one round; None:
        not known yet), seconds (of a round's training, by a probe; None: not known), folder, phase (its name, of a run
        that is a phase of another; else None), whole (method of the whole run), after (rounds of the whole run that
        follow after this phase), settings."""
        return

    def phase_started(self, phase: Phase) -> None:
        """A phase begins: loading, sampling, judging, training, ..."""
        return

    def phase_advanced(self, phase: Phase) -> None:
        """Some units of a phase are done; called as often as they are, so answer quickly."""
        return

    def phase_ended(self, phase: Phase) -> None:
        """A phase ended without an error."""
        return

    def step(self, line: Line) -> None:
        """An optimizer step: its line of metrics.jsonl, with round, step, loss, grad_norm, lr and others."""
        return

    def evaluated(self, line: Line) -> None:
        """An evaluation on held-out pairs inside a fit: its line of within_fits.jsonl."""
        return

    def round_done(self, line: Line) -> None:
        """A round is done; 0: the policy before training. `round`, and the rest of its line of evaluation.jsonl if the
        round was evaluated."""
        return

    def finished(self, summary: Line) -> None:
        """The run is finished: what summary.json holds."""
        return


@dataclass(eq=False)
class Phase:
    """A phase of a round: `tick(n)` advances by n units, and callers may add to `tokens`.

    total    units of the whole phase; None: it is not known how many there will be.
    unit     what is counted, in the plural; empty: nothing is.
    begun    units that were done before the phase was begun here, of a fit that is resumed.
    tokens   read or written so far; of a phase that knows all of them from the start, `all_tokens` instead.
    """

    round: int
    name: str
    total: int | None
    unit: str
    done: int = 0
    begun: int = 0
    tokens: int = 0
    all_tokens: int | None = None
    started: float = field(default_factory=lambda: time.perf_counter())
    advanced: Callable[[Phase], None] = field(default=lambda phase: None, repr=False)

    @property
    def seconds(self) -> float:
        """Seconds since the phase began."""
        return time.perf_counter() - self.started

    @property
    def rate(self) -> float:
        """Units per second of this process, 0 if none is done."""
        return (self.done - self.begun) / max(self.seconds, 1e-9)

    @property
    def token_rate(self) -> float:
        """Tokens per second of this process, 0 if none is known."""
        if self.all_tokens is not None and self.total:
            return self.rate * self.all_tokens / self.total
        return self.tokens / max(self.seconds, 1e-9)

    def tick(self, count: int = 1) -> None:
        """Count units as done."""
        self.done += count
        self.advanced(self)

    def resume(self, done: int) -> None:
        """Begin with units that are done already."""
        self.done = self.begun = done


@dataclass(frozen=True)
class Progress(Callback):
    """Tells every callback; finished phases of rounds are handed to `record(round, phase, seconds, tokens)` too.

    quiet   whether warnings are kept from the terminal.
    """

    record: Callable[[int, str, float, int], None] | None = None
    callbacks: Sequence[Callback] = ()
    quiet: bool = False

    @contextmanager
    def phase(self, round: int, name: str, total: int | None, unit: str) -> Iterator[Phase]:
        """Context manager: one phase of a round, of `total` units; None: it is not known how many there will be."""
        with self._told(round, name, total, unit) as phase:
            yield phase
        if self.record:
            self.record(round, name, phase.seconds, phase.tokens)

    @contextmanager
    def preparing(self, name: str) -> Iterator[None]:
        """Context manager: what is done before the rounds, such as loading a model; it is told, not recorded."""
        with self._told(0, name, None, ""):
            yield

    @contextmanager
    def _told(self, round: int, name: str, total: int | None, unit: str) -> Iterator[Phase]:
        phase = Phase(round, name, total, unit, advanced=self.phase_advanced)
        self.phase_started(phase)
        yield phase
        self.phase_ended(phase)

    def run_started(self, about: Line) -> None:
        for callback in self.callbacks:
            callback.run_started(about)

    def phase_started(self, phase: Phase) -> None:
        for callback in self.callbacks:
            callback.phase_started(phase)

    def phase_advanced(self, phase: Phase) -> None:
        for callback in self.callbacks:
            callback.phase_advanced(phase)

    def phase_ended(self, phase: Phase) -> None:
        for callback in self.callbacks:
            callback.phase_ended(phase)

    def step(self, line: Line) -> None:
        for callback in self.callbacks:
            callback.step(line)

    def evaluated(self, line: Line) -> None:
        for callback in self.callbacks:
            callback.evaluated(line)

    def round_done(self, line: Line) -> None:
        for callback in self.callbacks:
            callback.round_done(line)

    def finished(self, summary: Line) -> None:
        for callback in self.callbacks:
            callback.finished(summary)
