"""A method: one choice per axis, and the paper's defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

from equipoise.core.objectives import Objective
from equipoise.core.objectives.catalog import Confidence
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.play import capabilities
from equipoise.play.component import parts
from equipoise.play.needs import NOTHING, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.players.protocol import Players
from equipoise.play.schedules import Ramp, Schedule, Stepped, schedule_of
from equipoise.play.state import Past, State
from equipoise.play.updates.protocol import Update

# (game, round's state, objective and update with their parameters) -> the policy that the round's fit would give
ClosedForm = Callable[[PreferenceGame, State, "Method"], TabularPolicy]
Status = Literal["stable", "experimental"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A run that comes before a method's rounds, whose result they start from.

    name       of its folder, `phases/<name>` in the run folder.
    method     the method that it plays, such as "sft".
    settings   settings in which it differs from the run, by dotted name.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Four choices on four axes. The loop never asks which method it runs.

    objective   None where the update minimises nothing and reads the comparisons itself.
    anchors     the objective's anchor names -> policies ("initial", "start").
    schedules   parameter -> how it moves over rounds or steps; its value elsewhere is the first one.
    phases      runs that come before the rounds (SFT), in their order; the last one's policy is the initial policy.
    train       settings of the run's training that differ from the package's, with the paper's values.
    sampling    settings of the run's sampling that the paper fixes, such as temperature and top_p.
    playground  settings for the built-in language game, whose model is a hundred-thousandth of the papers'.
    exact       parameters for exact games, whose payoffs are win rates in [0, 1].
    closed_form what the round's fit gives on a finite game, where there is a formula; everything around the fit (a
                second fit, a magnet, an extrapolation) is played as ever.
    in_theory   players and pairing that the method's theory speaks of, where its practice samples otherwise;
                exact games use them.
    derived     parameters that follow from others unless they are set: name -> function of all parameters.
    kl_weight   the parameter that is the KL weight of the regularised game whose equilibrium the method seeks.
    sources     parameter or setting -> where its default comes from ("authors' code", "paper", "ours", ...).
    evidence    what proves the method beside what proves its objective: tests, and claims by name.
    notes       what a reader of the formula should know, such as which constants are recalled.

    Raises ValueError where the choices do not fit together: anchors that the objective does not read, responses that
    cannot be paired, records of two kinds, two values for one parameter, an unknown confidence or status.
    """

    name: str
    title: str
    paper: str
    confidence: Confidence
    players: Players
    pairing: Pairing
    objective: Objective | None
    anchors: Mapping[str, str]
    update: Update
    rounds: int
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    train: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    playground: Mapping[str, Any] = field(default_factory=dict)
    exact: Mapping[str, Any] = field(default_factory=dict)
    closed_form: ClosedForm | None = None
    in_theory: tuple[Players, Pairing] | None = None
    derived: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    kl_weight: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    status: Status = "stable"
    notes: str = ""

    def __post_init__(self) -> None:
        read = self.objective.anchors if self.objective else ()
        if set(self.anchors) != set(read):
            raise ValueError(
                f"method {self.name}: anchors {sorted(self.anchors)} are named, the objective reads {sorted(read)}"
            )
        for what, value, known in (
            ("confidence", self.confidence, get_args(Confidence)),
            ("status", self.status, get_args(Status)),
        ):
            if value not in known:
                raise ValueError(f"method {self.name}: {what} {value!r} is none of {', '.join(known)}")
        self._one_value_each()
        try:
            _ = self.needs
            if self.players.width is not None:
                self.pairing.check(self.players.width)
        except ValueError as error:
            raise ValueError(f"method {self.name}: {error}") from error
        known_names = self.parameters()
        for name, schedule in self.schedules.items():
            if name not in known_names:
                raise ValueError(f"method {self.name}: a schedule of {name!r}, which is no parameter")
            if _by_steps(schedule) and name not in _parameters(self.objective):
                raise ValueError(
                    f"method {self.name}: {name} is no parameter of the objective and cannot move within a round; "
                    "use over: rounds"
                )

    def _one_value_each(self) -> None:
        """Raise ValueError where two choices have a parameter of one name and disagree on its value."""
        seen: dict[str, Any] = {}
        for axis in AXES:
            for name, value in _parameters(getattr(self, axis)).items():
                if name in self.derived:
                    continue  # it follows from others when they are set
                if name in seen and seen[name] != value:
                    raise ValueError(
                        f"method {self.name}: {name} is one parameter and has two values, "
                        f"{seen[name]!r} and {value!r} (that of its {axis})"
                    )
                seen[name] = value

    def parameters(self) -> dict[str, Any]:
        """The method's parameters by name: the objective's, then those of its update, pairing and players.

        Where two choices have a parameter of one name it is one parameter, and both follow it.
        """
        values: dict[str, Any] = {}
        for axis in AXES:
            for name, value in _parameters(getattr(self, axis)).items():
                values.setdefault(name, value)
        return values

    def with_parameters(self, values: Mapping[str, Any]) -> Method:
        """The same method with some parameters changed; a list of numbers, or a mapping with `start` and `end`, is a
        schedule (`play.schedules`).

        Raises KeyError for an unknown name (naming the nearest) and ValueError for a value that is illegal or no
        number where one is needed.
        """
        known, given, schedules = self.parameters(), {}, dict(self.schedules)
        for name, setting in values.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise KeyError(f"{self.name} has no parameter {name!r}{hint} (known: {', '.join(known)})")
            schedule = schedule_of(setting) if isinstance(known[name], int | float) else None
            schedules.pop(name, None)
            if schedule:
                schedules[name] = schedule
            value = schedule.first if schedule else setting
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(known[name], float) and not number:
                raise ValueError(f"{name} must be a number, got {value!r}")
            given[name] = float(value) if isinstance(known[name], float) else value
        changed = self._with(given, schedules)
        for name, schedule in changed.schedules.items():  # every value must be legal, before a round meets it
            for value in (
                schedule.values if not isinstance(schedule, Ramp) else (schedule.start, schedule.end)
            ):
                changed._with({name: value}, changed.schedules)
        return changed

    def _with(self, given: Mapping[str, Any], schedules: Mapping[str, Schedule]) -> Method:
        known = self.parameters()
        given = {
            **given,
            **{n: rule(known | dict(given)) for n, rule in self.derived.items() if n not in given},
        }
        changed = {axis: _replaced(getattr(self, axis), given) for axis in AXES}
        return replace(self, **changed, schedules=schedules)

    def at_round(self, round: int) -> Method:
        """The method with the parameters of a round; those that move over steps move in `loss`."""
        moving = {n: s for n, s in self.schedules.items() if not _by_steps(s)}
        if not moving:
            return self
        return self._with({n: s.at(round, self.rounds) for n, s in moving.items()}, self.schedules)

    @property
    def loss(self) -> Objective:
        """The objective, for an update that minimises one. Raises ValueError where there is none."""
        if self.objective is None:
            raise ValueError(f"{self.name} has no objective to minimise")
        ramps = {name: s for name, s in self.schedules.items() if isinstance(s, Ramp) and s.over == "steps"}
        return Stepped(self.objective, ramps) if ramps else self.objective

    @property
    def needs(self) -> Needs:
        """What a run must be given: the needs of all choices together."""
        together = NOTHING
        for part in self._parts():
            together |= part.needs
        return together

    @property
    def capabilities(self) -> tuple[type, ...]:
        """Protocols of `play.capabilities` that the world must have."""
        return tuple(dict.fromkeys(c for part in self._parts() for c in part.capabilities))

    def check_world(self, world: type) -> None:
        """Raise ValueError, in one sentence, where the world cannot play the method."""
        capabilities.check(self.name, self.capabilities, world)

    def _parts(self) -> Iterator[Any]:
        for axis in ("players", "pairing", "update"):
            yield from parts(getattr(self, axis))

    @property
    def tau(self) -> float | None:
        """KL weight of the game that the method plays; None if it is the plain one or no game."""
        return self.parameters()[self.kl_weight] if self.kl_weight else None

    @property
    def asks_the_past(self) -> bool:
        """Whether a player or an opponent is drawn from past iterates."""
        return _mentions_past((self.players, self.pairing))

    @property
    def reach(self) -> int:
        """How many rounds back the pairing replays comparisons from."""
        return self.pairing.reach(self.rounds)

    def on_exact_games(self, rounds: int) -> Method:
        """The form that an exact game enumerates: the theory's players and pairing, for so many rounds."""
        known = self.parameters()
        players, pairing = (_replaced(c, known) for c in self.in_theory or (self.players, self.pairing))
        return replace(self, players=players, pairing=pairing, rounds=rounds)


AXES = ("objective", "update", "pairing", "players")


def _by_steps(schedule: Schedule) -> bool:
    return isinstance(schedule, Ramp) and schedule.over == "steps"


def _mentions_past(choice: Any) -> bool:
    """Whether a choice, or one inside it, names `Past` as a policy."""
    if isinstance(choice, tuple):
        return any(map(_mentions_past, choice))
    if is_dataclass(choice) and not isinstance(choice, Past):
        return any(_mentions_past(getattr(choice, f.name)) for f in fields(choice))
    return isinstance(choice, Past)


def _names(choice: Any) -> tuple[str, ...]:
    """A choice's own parameters: those it declares, or all fields of an objective."""
    if choice is None:
        return ()
    own = getattr(choice, "parameters", None)
    return tuple(own) if own is not None else tuple(f.name for f in fields(choice))


def _parameters(choice: Any) -> dict[str, Any]:
    inner = _parameters(choice.base) if hasattr(choice, "base") else {}
    return {name: getattr(choice, name) for name in _names(choice)} | inner


def _replaced(choice: Any, values: Mapping[str, Any]) -> Any:
    changed = {name: values[name] for name in _names(choice) if name in values}
    if hasattr(choice, "base"):
        changed["base"] = _replaced(choice.base, values)
    return replace(choice, **changed) if changed else choice
