"""A method: one choice per axis, and the paper's defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from equipoise.core.objectives import Objective
from equipoise.core.objectives.catalog import Confidence
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.play.pairing import Pairing
from equipoise.play.players import Players
from equipoise.play.updates import Update

# (game, policy at the start of the round, objective) -> policy after one exact step
ClosedForm = Callable[[PreferenceGame, TabularPolicy, Any], TabularPolicy]


@dataclass(frozen=True, kw_only=True)
class Method:
    """Four choices on four axes. The loop never asks which method it runs.

    anchors     the objective's anchor names -> policies ("initial", "start").
    needs       "pairs" (recorded preferences) or "oracle" (prompts and somebody who judges).
    train       settings of the run that differ from the package's, with the paper's values.
    playground  settings for the built-in language game, whose model is a hundred-thousandth of the papers'.
    exact       parameters of the objective for exact games, whose payoffs are win rates in [0, 1].
    closed_form one exact step on a finite game, where there is one.
    in_theory   players and pairing that the method's theory speaks of, where its practice samples otherwise;
                exact games use them.
    """

    name: str
    title: str
    paper: str
    confidence: Confidence
    needs: str
    players: Players
    pairing: Pairing
    objective: Objective
    anchors: Mapping[str, str]
    update: Update
    rounds: int
    train: Mapping[str, Any] = field(default_factory=dict)
    playground: Mapping[str, Any] = field(default_factory=dict)
    exact: Mapping[str, Any] = field(default_factory=dict)
    closed_form: ClosedForm | None = None
    in_theory: tuple[Players, Pairing] | None = None
    status: str = "stable"

    def __post_init__(self) -> None:
        if set(self.anchors) != set(self.objective.anchors):
            raise ValueError(
                f"method {self.name}: anchors {sorted(self.anchors)} are named, "
                f"the objective reads {sorted(self.objective.anchors)}"
            )

    def parameters(self) -> dict[str, Any]:
        """The objective's parameters by name."""
        return {f.name: getattr(self.objective, f.name) for f in fields(self.objective)}  # type: ignore[arg-type]

    def with_parameters(self, values: Mapping[str, Any]) -> Method:
        """The same method with some objective parameters changed.

        Raises KeyError for an unknown name (naming the nearest) and ValueError for a value that is illegal or no
        number where one is needed.
        """
        known, given = self.parameters(), dict(values)
        for name, value in values.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise KeyError(f"{self.name} has no parameter {name!r}{hint} (known: {', '.join(known)})")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(known[name], float) and not number:
                raise ValueError(f"{name} must be a number, got {value!r}")
            given[name] = float(value) if isinstance(known[name], float) else value
        return replace(self, objective=replace(self.objective, **given))  # type: ignore[type-var]

    def on_exact_games(self, rounds: int) -> Method:
        """The form that an exact game enumerates: the theory's players and pairing, for so many rounds."""
        players, pairing = self.in_theory or (self.players, self.pairing)
        return replace(self, players=players, pairing=pairing, rounds=rounds)
