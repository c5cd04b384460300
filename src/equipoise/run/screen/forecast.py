"""Time left of a whole run: rounds, their phases, and the units of the current one."""

from __future__ import annotations

import time
from collections.abc import Callable

from equipoise.worlds.text.progress import Callback, Line, Phase

# Shares of a round's time that its phases usually have, in the order in which they come: they are believed only of
# phases that this run has not yet had.
USUAL = {"sampling": 3.0, "judging": 1.0, "anchors": 1.0, "training": 4.0, "writing": 0.1, "evaluating": 2.0}


ALMOST = 0.99  # the most that is shown of a run that goes on


class Forecast(Callback):
    """Forecasts the end of a run by what it has measured of it so far.

    A finished round says how long the next ones take. In the first one, phases that are known count as measured: the
    current one by its own pace, evaluation by that of round 0, training by the probe before the run. The others get
    their usual share of a round.

    A run that is a phase of another says how many rounds follow after it; they count as long as its own until they are
    played, and the whole run has one share.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.after = 0
        self.begin({})

    def begin(self, about: Line) -> None:
        """Forget everything but the time and the share of a whole run of which another part begins."""
        if not self.after:
            self.began, self.reached = self.now(), 0.0
        self.after = int(about.get("after", 0))
        self.rounds = int(about.get("rounds", 1))
        self.done = int(about.get("done", 0))
        self.round_started = self.now()
        self.opened = False  # whether the starting policy was evaluated, and rounds are played
        self.last_round: float | None = None
        self.known: dict[str, float] = {}
        if about.get("seconds") is not None:
            self.known["training"] = float(about["seconds"])
        self.spent: dict[str, float] = {}
        self.current: Phase | None = None

    def run_started(self, about: Line) -> None:
        self.begin(about)

    def phase_started(self, phase: Phase) -> None:
        self.current = phase

    def phase_ended(self, phase: Phase) -> None:
        self.spent[phase.name] = self.spent.get(phase.name, 0.0) + phase.seconds
        self.current = None

    def round_done(self, line: Line) -> None:
        now = self.now()
        if int(line["round"]) > self.done:
            self.last_round = now - self.round_started
        self.known |= {name: seconds for name, seconds in self.spent.items() if name != "training"}
        self.done, self.spent, self.round_started, self.opened = int(line["round"]), {}, now, True

    def left(self) -> float | None:
        """Seconds left; None while nothing at all is known."""
        a_round = self.last_round or self._first_round()
        if self.done >= self.rounds and not (self.after and a_round):
            return None if self.after else 0.0
        if a_round is None:
            return None
        return self._left_of_part(a_round) + self.after * a_round

    def _left_of_part(self, a_round: float) -> float:
        if self.done >= self.rounds:
            return 0.0
        rounds, own = self.rounds - self.done, self._left_of_phase() or 0.0
        if not self.opened:
            return own + rounds * a_round
        return max(a_round - (self.now() - self.round_started), own) + (rounds - 1) * a_round

    def share(self) -> float:
        """Share of the run's time that is over, in [0, 1]; it never falls."""
        remaining = self.left()
        if remaining is not None:
            passed = self.now() - self.began
            self.reached = max(self.reached, passed / max(passed + remaining, 1e-9))
        return 1.0 if self.done >= self.rounds and not self.after else min(ALMOST, self.reached)

    def _left_of_phase(self) -> float | None:
        phase = self.current
        if phase is None or phase.total is None or not phase.rate:
            return None
        return max(0.0, phase.total - phase.done) / phase.rate

    def _first_round(self) -> float | None:
        """Seconds of the round that is being played, by what is known of its phases."""
        had = dict(self.spent) if self.opened else {}
        if self.current is not None and self.opened:
            own = self._left_of_phase()
            if own is not None:
                own += self.current.seconds
            else:
                own = max(self.current.seconds, self.known.get(self.current.name, 0.0))
            had[self.current.name] = had.get(self.current.name, 0.0) + own
        order = list(USUAL)
        at = max((order.index(name) for name in had if name in USUAL), default=-1)
        known = {name: self.known[name] for name in order[at + 1 :] if name in self.known}
        total, weight = (
            sum(had.values()) + sum(known.values()),
            sum(USUAL.get(name, 0.0) for name in had | known),
        )
        if not weight or not total:
            return None
        unknown = sum(USUAL[name] for name in order[at + 1 :] if name not in known)
        return total + unknown * total / weight
