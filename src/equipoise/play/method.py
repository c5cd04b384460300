"""A method: one choice per axis, and the paper's defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any

from equipoise.core.objectives import Objective
from equipoise.core.objectives.catalog import Confidence
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.replay_buffer import Replayed
from equipoise.play.players.protocol import Players
from equipoise.play.state import Past, State
from equipoise.play.updates.protocol import Update

# (game, round's state, objective and update with their parameters) -> the policy that the round's fit would give
ClosedForm = Callable[[PreferenceGame, State, "Method"], TabularPolicy]


@dataclass(frozen=True, kw_only=True)
class Method:
    """Four choices on four axes. The loop never asks which method it runs.

    objective   None where the update minimises nothing and reads the comparisons itself.
    anchors     the objective's anchor names -> policies ("initial", "start").
    needs       "pairs" (recorded preferences; "pairs with margins", "pairs with rationales"), "unary" (recorded
                responses with a thumb up or down, or pairs to take apart), "lists" (recorded rankings), "oracle"
                (prompts and somebody who judges), "pairs and oracle", or "prompts" (nobody is asked).
    train       settings of the run that differ from the package's, with the paper's values.
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
    """

    name: str
    title: str
    paper: str
    confidence: Confidence
    needs: str
    players: Players
    pairing: Pairing
    objective: Objective | None
    anchors: Mapping[str, str]
    update: Update
    rounds: int
    train: Mapping[str, Any] = field(default_factory=dict)
    playground: Mapping[str, Any] = field(default_factory=dict)
    exact: Mapping[str, Any] = field(default_factory=dict)
    closed_form: ClosedForm | None = None
    in_theory: tuple[Players, Pairing] | None = None
    derived: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    kl_weight: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    status: str = "stable"
    notes: str = ""

    def __post_init__(self) -> None:
        read = self.objective.anchors if self.objective else ()
        if set(self.anchors) != set(read):
            raise ValueError(
                f"method {self.name}: anchors {sorted(self.anchors)} are named, the objective reads {sorted(read)}"
            )

    def parameters(self) -> dict[str, Any]:
        """The method's parameters by name: the objective's, then those of its update, pairing and players.

        Where two choices have a parameter of one name it is one parameter, and both follow it.
        """
        found: dict[str, Any] = {}
        for choice in (self.objective, self.update, self.pairing, self.players):
            for name, value in _parameters(choice).items():
                found.setdefault(name, value)
        return found

    def with_parameters(self, values: Mapping[str, Any]) -> Method:
        """The same method with some parameters changed.

        Raises KeyError for an unknown name (naming the nearest) and ValueError for a value that is illegal or no
        number where one is needed.
        """
        known, given = self.parameters(), {}
        for name, value in values.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise KeyError(f"{self.name} has no parameter {name!r}{hint} (known: {', '.join(known)})")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(known[name], float) and not number:
                raise ValueError(f"{name} must be a number, got {value!r}")
            given[name] = float(value) if isinstance(known[name], float) else value
        given |= {name: follows(known | given) for name, follows in self.derived.items() if name not in given}
        changed = {
            axis: _replaced(getattr(self, axis), given)
            for axis in ("objective", "update", "pairing", "players")
        }
        return replace(self, **changed)

    @property
    def loss(self) -> Objective:
        """The objective, for an update that minimises one. Raises ValueError where there is none."""
        if self.objective is None:
            raise ValueError(f"{self.name} has no objective to minimise")
        return self.objective

    @property
    def tau(self) -> float | None:
        """KL weight of the game that the method plays; None if it is the plain one or no game."""
        return self.parameters()[self.kl_weight] if self.kl_weight else None

    @property
    def reads_pairs(self) -> bool:
        """Whether recorded pairs must be there: the method needs them, or its update mixes them in."""
        return "pairs" in self.needs or bool(self.parameters().get("offline"))

    @property
    def asks_the_past(self) -> bool:
        """Whether a player or an opponent is drawn from past iterates."""
        return _mentions_past((self.players, self.pairing))

    @property
    def reach(self) -> int:
        """How many rounds back the pairing replays comparisons from."""
        if not isinstance(self.pairing, Replayed):
            return 0
        return self.rounds if self.pairing.shares is None else len(self.pairing.shares)

    def on_exact_games(self, rounds: int) -> Method:
        """The form that an exact game enumerates: the theory's players and pairing, for so many rounds."""
        known = self.parameters()
        players, pairing = (_replaced(c, known) for c in self.in_theory or (self.players, self.pairing))
        return replace(self, players=players, pairing=pairing, rounds=rounds)


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
