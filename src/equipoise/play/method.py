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
from equipoise.play.schedules import Ramp, Schedule, Stepped, schedule_of, setting_of
from equipoise.play.state import Past, State
from equipoise.play.updates.protocol import Update

# (game, round's state, objective and update with their parameters) -> the policy that the round's fit would give
ClosedForm = Callable[[PreferenceGame, State, "Method"], TabularPolicy]
Status = Literal["stable", "experimental"]
AUTO = "auto"  # the value of a parameter that the numbers of recorded comparisons and of rounds decide


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a run's data and settings decide parameters by.

    comparisons   recorded ones that a round trains on; None if the run records none.
    rounds        of the run.
    tokens        mean length of a recorded response, its closing token included; where none is recorded, the most
                  tokens of a sampled one. None: not known.
    """

    comparisons: int | None
    rounds: int
    tokens: float | None = None


# (size of the run, all parameters, with those decided before it) -> a parameter; None: it keeps the objective's value
BySize = Callable[[Size, Mapping[str, Any]], float | None]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A training phase before a method's rounds, such as SFT; the rounds start from its result.

    name       of its folder, `phases/<name>` in the run folder.
    method     the method that it runs, such as "sft".
    settings   overrides of the run's settings, by dotted name.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method as data: one choice on each of four axes. The loop never asks which method it runs.

    objective   None for an update that minimises no loss and reads the comparisons itself.
    anchors     the objective's anchor names -> policies ("initial", "start").
    schedules   parameter -> schedule over rounds or steps; elsewhere the parameter has the schedule's first value.
    phases      training phases before the rounds (SFT), in order; the last one's policy is the initial policy.
    data        data settings that the method is made for, such as few-shot examples.
    train       the paper's training settings, where they differ from the package's.
    sampling    sampling settings that the paper fixes, such as temperature and top_p.
    oracle      the specification of the oracle that it asks unless another is given; None: one must be given.
    playground  settings for the built-in language game, with a model 100,000 times smaller than the papers'.
    exact       parameters for exact games, whose payoffs are win rates in [0, 1].
    closed_form exact result of the round's fit on a finite game, where a formula is known; everything around the fit
                (a second fit, a magnet, an extrapolation) is played as usual.
    in_theory   players and pairing of the method's theory, where its practice samples differently; exact games use
                them.
    derived     parameters computed from others unless they are set: name -> function of all parameters.
    by_size     parameters that may be AUTO: name -> function of the run's size, in the order they are decided in.
    automatic   those that are AUTO; elsewhere, as in exact games, they have the values of the objective.
    kl_weight   the parameter that is the KL weight of the regularised game whose equilibrium the method seeks.
    sources     parameter or setting -> where its default comes from ("authors' code", "paper", "ours", ...).
    evidence    evidence for the method in addition to its objective's: tests, and claims by name.
    notes       caveats for a reader of the formula, such as which constants are recalled.

    Raises ValueError if the components are incompatible: anchors that the objective does not read, responses that
    cannot be paired, two kinds of recorded data, conflicting values of a shared parameter, an unknown confidence or
    status.
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
    data: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    oracle: str | None = None
    playground: Mapping[str, Any] = field(default_factory=dict)
    exact: Mapping[str, Any] = field(default_factory=dict)
    closed_form: ClosedForm | None = None
    in_theory: tuple[Players, Pairing] | None = None
    derived: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    by_size: Mapping[str, BySize] = field(default_factory=dict)
    automatic: frozenset[str] = frozenset()
    kl_weight: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    status: Status = "stable"
    notes: str = ""

    def __post_init__(self) -> None:
        read = self.objective.anchors if self.objective else ()
        if set(self.anchors) != set(read):
            raise ValueError(
                f"method {self.name}: its objective reads the anchors {sorted(read)}, got {sorted(self.anchors)}"
            )
        for what, value, known in (
            ("confidence", self.confidence, get_args(Confidence)),
            ("status", self.status, get_args(Status)),
        ):
            if value not in known:
                raise ValueError(
                    f"method {self.name}: {what} must be one of {', '.join(known)}, got {value!r}"
                )
        self._one_value_each()
        try:
            _ = self.needs
            if self.players.width is not None:
                self.pairing.check(self.players.width)
        except ValueError as error:
            raise ValueError(f"method {self.name}: {error}") from error
        known_names = self.parameters()
        if stray := (self.by_size.keys() - known_names) | (self.automatic - self.by_size.keys()):
            raise ValueError(f"method {self.name}: {', '.join(sorted(stray))} cannot be {AUTO}")
        for name, schedule in self.schedules.items():
            if name not in known_names:
                raise ValueError(f"method {self.name}: schedules names {name!r}, which is not a parameter")
            if _by_steps(schedule) and name not in _parameters(self.objective):
                raise ValueError(
                    f"method {self.name}: only an objective's parameters can change over steps, and {name} is none; "
                    "use over: rounds"
                )

    def _one_value_each(self) -> None:
        """Raise ValueError if two components share a parameter and disagree on its value."""
        seen: dict[str, Any] = {}
        for axis in AXES:
            for name, value in _parameters(getattr(self, axis)).items():
                if name in self.derived:
                    continue  # computed from others when they are set
                if name in seen and seen[name] != value:
                    raise ValueError(
                        f"method {self.name}: parameter {name} is shared and has conflicting values, "
                        f"{seen[name]!r} and {value!r} (in its {axis}); give both the same"
                    )
                seen[name] = value

    def parameters(self) -> dict[str, Any]:
        """The method's parameters by name: the objective's, then those of its update, pairing and players.

        A name that occurs in two components is one shared parameter.
        """
        values: dict[str, Any] = {}
        for axis in AXES:
            for name, value in _parameters(getattr(self, axis)).items():
                values.setdefault(name, value)
        return values

    def settings(self) -> dict[str, Any]:
        """The parameters as a configuration holds them: a scheduled one as its list or ramp, AUTO where the size of the
        run decides."""
        scheduled = {name: setting_of(schedule) for name, schedule in self.schedules.items()}
        return self.parameters() | scheduled | dict.fromkeys(self.automatic, AUTO)

    def defaults(self) -> dict[str, Any]:
        """The settings of a run that gives none: AUTO for every parameter that the size of the run can decide."""
        return self.settings() | dict.fromkeys(self.by_size, AUTO)

    def with_parameters(self, values: Mapping[str, Any]) -> Method:
        """A copy of the method with some parameters changed; a list of numbers, or a mapping with `start` and `end`, is
        a schedule (`play.schedules`).

        Raises KeyError for an unknown name (suggesting the nearest) and ValueError for an illegal value or one of the
        wrong type.
        """
        known, given, schedules = self.parameters(), {}, dict(self.schedules)
        automatic = {n for n in self.by_size if values.get(n, AUTO if n in self.automatic else None) == AUTO}
        for name, setting in values.items():
            if name in automatic:
                continue
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
        changed = replace(self._with(given, schedules), automatic=frozenset(automatic))
        for name, schedule in changed.schedules.items():  # check every value now, before a round uses it
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

    def for_size(self, size: Size) -> Method:
        """The method for a run's size: the parameters that are AUTO have their values.

        Raises ValueError if a value that was set does not go with one that is decided.
        """
        decided: dict[str, float] = {}
        for name in (name for name in self.by_size if name in self.automatic):
            value = self.by_size[name](size, self.parameters() | decided)
            if value is not None:
                decided[name] = value
        return self.with_parameters(decided)

    def at_round(self, round: int) -> Method:
        """The method with the parameters of a round; schedules over steps are applied in `loss`."""
        moving = {n: s for n, s in self.schedules.items() if not _by_steps(s)}
        if not moving:
            return self
        return self._with({n: s.at(round, self.rounds) for n, s in moving.items()}, self.schedules)

    @property
    def loss(self) -> Objective:
        """The objective to minimise. Raises ValueError if there is none."""
        if self.objective is None:
            raise ValueError(f"{self.name} has no objective to minimise")
        ramps = {name: s for name, s in self.schedules.items() if isinstance(s, Ramp) and s.over == "steps"}
        return Stepped(self.objective, ramps) if ramps else self.objective

    @property
    def needs(self) -> Needs:
        """Data and oracle that a run must supply: the needs of all components combined."""
        together = NOTHING
        for part in self._parts():
            together |= part.needs
        return together

    @property
    def capabilities(self) -> tuple[type, ...]:
        """Protocols of `play.capabilities` that the world must have."""
        return tuple(dict.fromkeys(c for part in self._parts() for c in part.capabilities))

    @property
    def models(self) -> tuple[str, ...]:
        """Folders or hub names of further models that the components read."""
        return tuple(dict.fromkeys(model for part in self._parts() for model in part.models))

    @property
    def mixes(self) -> bool:
        """Whether responses are sampled from a mixture of two policies."""
        return any(part.mixes for part in self._parts())

    def check_world(self, world: type) -> None:
        """Raise ValueError, in one sentence, if the world cannot play the method."""
        capabilities.check(self.name, self.capabilities, world)

    def _parts(self) -> Iterator[Any]:
        for axis in ("players", "pairing", "update"):
            yield from parts(getattr(self, axis))

    @property
    def tau(self) -> float | None:
        """KL weight of the regularised game that the method plays; None for the unregularised game or no game."""
        return self.parameters()[self.kl_weight] if self.kl_weight else None

    @property
    def asks_the_past(self) -> bool:
        """Whether players, opponents or references are drawn from past iterates."""
        return _mentions_past((self.players, self.pairing, self.update))

    @property
    def reach(self) -> int:
        """Replay horizon: how many rounds back the pairing takes comparisons from."""
        return self.pairing.reach(self.rounds)

    def on_exact_games(self, rounds: int) -> Method:
        """The form that an exact game enumerates: the theory's players and pairing, for `rounds` rounds."""
        known = self.parameters()
        players, pairing = (_replaced(c, known) for c in self.in_theory or (self.players, self.pairing))
        return replace(self, players=players, pairing=pairing, rounds=rounds)


AXES = ("objective", "update", "pairing", "players")


def _by_steps(schedule: Schedule) -> bool:
    return isinstance(schedule, Ramp) and schedule.over == "steps"


def _mentions_past(choice: Any) -> bool:
    """Whether a component, or one nested in it, uses `Past` as a policy."""
    if isinstance(choice, tuple):
        return any(map(_mentions_past, choice))
    if is_dataclass(choice) and not isinstance(choice, Past):
        return any(_mentions_past(getattr(choice, f.name)) for f in fields(choice))
    return isinstance(choice, Past)


def _names(choice: Any) -> tuple[str, ...]:
    """A component's own parameters: those that it declares, or all fields of an objective."""
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
