"""Callbacks of users and trackers: objects with methods of the protocol; what one raises ends the run with its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from equipoise.connect.trackers import Tracker, check_installed, tracker
from equipoise.run.config import ConfigError
from equipoise.worlds.text.progress import Callback, Line, Phase

EVENTS = tuple(name for name in vars(Callback) if not name.startswith("_"))


class CallbackError(RuntimeError):
    """A callback raised an exception; the message names it. The run is resumed by the same call."""


class Guarded(Callback):
    """A user's callback; an event for which it has no method is not told."""

    def __init__(self, inner: Any) -> None:
        """Raises ConfigError for an object that has no method of the protocol."""
        self.inner = inner
        given = inner if isinstance(inner, type) else type(inner)
        self.name = f"{given.__module__}.{given.__qualname__}"
        if isinstance(inner, type):
            raise ConfigError(f"the callback {self.name} is a class; give an object of it")
        if not any(callable(getattr(inner, event, None)) for event in EVENTS):
            raise ConfigError(
                f"the callback {self.name} has none of the methods {', '.join(EVENTS)}; inherit equipoise.Callback"
            )

    def _tell(self, event: str, about: Any) -> None:
        told = getattr(self.inner, event, None)
        if told is None:
            return
        try:
            told(about)
        except Exception as error:
            raise CallbackError(
                f"the callback {self.name} failed in {event}: {type(error).__name__}: {error}; the same call "
                "resumes the run"
            ) from error

    def run_started(self, about: Line) -> None:
        self._tell("run_started", about)

    def phase_started(self, phase: Phase) -> None:
        self._tell("phase_started", phase)

    def phase_advanced(self, phase: Phase) -> None:
        self._tell("phase_advanced", phase)

    def phase_ended(self, phase: Phase) -> None:
        self._tell("phase_ended", phase)

    def step(self, line: Line) -> None:
        self._tell("step", line)

    def evaluated(self, line: Line) -> None:
        self._tell("evaluated", line)

    def round_done(self, line: Line) -> None:
        self._tell("round_done", line)

    def finished(self, summary: Line) -> None:
        self._tell("finished", summary)


def guarded(callbacks: Any) -> list[Callback]:
    """The callbacks of a call, guarded. Raises ConfigError for what is no list, and for one that hears nothing."""
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise ConfigError(
            f"callbacks is of type {type(callbacks).__name__}; give a list of objects, such as [MINE]"
        )
    return [Guarded(one) for one in callbacks]


@contextmanager
def tracked(names: Sequence[str]) -> Iterator[list[Tracker]]:
    """Context manager: the trackers of these names, ended however the run ends.

    Raises ConfigError for one whose library is not installed.
    """
    try:
        check_installed(names)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with ExitStack() as open_until_here:
        made = [tracker(name) for name in names]
        for one in made:
            open_until_here.callback(one.close)
        yield made
