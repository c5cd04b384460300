"""Parameter schedules over the rounds of a method, or over the optimizer steps of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from typing import Any, Literal, cast, get_args

from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores

Over = Literal["rounds", "steps"]
Shape = Literal["linear", "cosine", "step"]


@dataclass(frozen=True)
class ByRound:
    """One value per round; later rounds keep the last (XPO's list of alphas)."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a list of values per round is empty; give at least one")

    @property
    def first(self) -> float:
        return self.values[0]

    def at(self, round: int, rounds: int) -> float:
        """The value of a round, the first being 1."""
        return self.values[min(round, len(self.values)) - 1]


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A ramp from `start` to `end`, over the run's rounds or over the optimizer steps of every round.

        start + (end - start) s(d/share),    s(x) = x, (1 - cos(pi x))/2, or 1[x >= 1],    d in [0, 1] the fraction done

    share   fraction of the rounds or steps over which it moves, 0 < share <= 1; after that it stays at `end`. With
            the shape "step" it stays at `start` until then.

    Raises ValueError for an unknown shape or a share out of range.
    """

    start: float
    end: float
    over: Over = "steps"
    shape: Shape = "linear"
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.over not in get_args(Over) or self.shape not in get_args(Shape) or not 0 < self.share <= 1:
            raise ValueError(
                f"a ramp needs over = {' or '.join(get_args(Over))}, shape = {' or '.join(get_args(Shape))} "
                f"and a share in (0, 1], got {self.over!r}, {self.shape!r} and {self.share!r}"
            )

    @property
    def first(self) -> float:
        return self.start

    def value(self, done: float) -> float:
        """The value when a fraction `done` of the rounds or steps is done."""
        x = min(done / self.share, 1.0)
        if self.shape == "step":
            return self.end if x >= 1 else self.start
        moved = x if self.shape == "linear" else (1 - cos(pi * x)) / 2
        return self.start + (self.end - self.start) * moved

    def at(self, round: int, rounds: int) -> float:
        """The value of a round: `start` in the first, `end` in the last."""
        return self.value((round - 1) / max(1, rounds - 1))


Schedule = ByRound | Ramp


def schedule_of(value: Any) -> Schedule | None:
    """Parse a setting: a list by round, or a mapping with `start` and `end`, is a schedule; None for a plain value.

    Raises ValueError for an invalid list or mapping.
    """
    if isinstance(value, ByRound | Ramp):
        return value
    if isinstance(value, Mapping):
        if unknown := sorted(value.keys() - {"start", "end", "over", "shape", "share"}):
            raise ValueError(
                f"a ramp has the keys start, end, over, shape and share, not {', '.join(unknown)}"
            )
        if {"start", "end"} - value.keys():
            raise ValueError("a ramp needs start and end, such as {start: 0.1, end: 0.01, over: rounds}")
        numbers = {name: float(value[name]) for name in ("start", "end", "share") if name in value}
        return Ramp(**{**value, **numbers})
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
            raise ValueError(f"a list of values per round must hold numbers, got {value!r}")
        return ByRound(tuple(map(float, value)))
    return None


def setting_of(schedule: Schedule) -> list[float] | dict[str, Any]:
    """The setting that `schedule_of` reads as this schedule."""
    return list(schedule.values) if isinstance(schedule, ByRound) else asdict(schedule)


@dataclass(frozen=True)
class Stepped:
    """An objective with parameters scheduled over the optimizer steps of a round.

    base    the objective; its `reads` and anchors do not depend on the scheduled parameters.
    ramps   parameter -> its ramp.

    Called, it is the objective at the end of its ramps: an exact fit minimises that.
    """

    base: Objective
    ramps: Mapping[str, Ramp]

    @property
    def anchors(self) -> tuple[str, ...]:
        return self.base.anchors

    @property
    def candidates(self) -> int:
        return self.base.candidates

    @property
    def reads(self) -> Reads:
        return self.base.reads

    def at(self, done: float) -> Objective:
        """The objective when a fraction `done` of the steps is done."""
        base: Any = self.base
        return replace(base, **{name: ramp.value(done) for name, ramp in self.ramps.items()})

    def batch_statistic(self, scores: Scores, weight: Tensor) -> Tensor:
        """The base's, where it reads one, at the end of the ramps."""
        base: Any = self.at(1.0)
        return cast(Tensor, base.batch_statistic(scores, weight))

    def __call__(self, scores: Scores) -> Losses:
        return self.at(1.0)(scores)


def at_step(objective: Objective, done: float) -> Objective:
    """The objective when a fraction `done` of a round's steps is done."""
    return objective.at(done) if isinstance(objective, Stepped) else objective
