"""The world protocol: the verbs by which a game is played, in a finite table or with a language model.

A round (`play.round`) has five phases, and each verb serves one:

    write     prompts, recorded, sample      the players' responses
    judge     compare, win_rates, past       the pairing's comparisons and labels
    freeze    anchors                        scores under the frozen policies, once
    move      fit, descend                   the update's new policies
    keep      stage, settle                  resuming: a finished phase is read back, a finished round is durable

What a single family of methods needs in addition is a protocol in `play.capabilities`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.play.decoding import AS_SET, Decode
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, Floats, State, Who


class World(Protocol):
    """The operations that differ between a finite table and a transformer."""

    def prompts(self, state: State) -> Rows:
        """This round's prompts: rows without responses."""
        ...

    def recorded(self, state: State) -> Rows:
        """Recorded pairs with their labels."""
        ...

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        """The comparisons (or another stage's result) of `back` rounds ago; None before the first round."""
        ...

    def sample(self, state: State, rows: Rows, by: Who, count: int, decode: Decode = AS_SET) -> Rows:
        """Append `count` responses per row, sampled from the named policy."""
        ...

    def compare(self, rows: Rows, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> Floats:
        """P(response first[i] beats response second[i]) of every row, from the oracle."""
        ...

    def win_rates(
        self,
        state: State,
        rows: Rows,
        against: Who,
        opponents: int,
        of: Callable[[Floats], Floats],
        decode: Decode = AS_SET,
    ) -> Floats:
        """[N, K] mean of f(P(y_k beats y')) over y' ~ `against`: exactly, or from samples.

        For text, `opponents` fresh responses of `against` are sampled per prompt; with opponents = 0 each response is
        compared with the others of its row, all by one policy (leave-one-out).
        """
        ...

    def anchors(
        self, state: State, rows: Rows, names: Mapping[str, str], *, tokens: bool = False
    ) -> Mapping[str, Tensor]:
        """Frozen scores [N, K] under each anchor; `names` maps the objective's anchors to policies.

        With `tokens`, for a token-level objective, text gives [N, K, T], zero-padded after the end of a response. In an
        exact game a response is one token and the shape stays as it is.
        """
        ...

    def fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
    ) -> Any:
        """Minimise the objective from the named policy; returns the new one.

        name     of the result, in a round that makes several policies.
        """
        ...

    def descend(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        rate: float,
        start: str = START,
        name: str = POLICY,
        speed: float = 1.0,
    ) -> Any:
        """Gradient steps on the objective: in a table one step of `rate` times A times the exact gradient in the
        logits (a gradient of order 1/A, as probabilities of A responses are); for text the round's optimizer steps,
        with Adam's moments carried over from the policy it starts at. `speed` multiplies either step size."""
        ...

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        """Run one stage of the round, or read back its result if an interrupted run had finished it."""
        ...

    def settle(self, state: State) -> State:
        """Make a new round's state durable; leftovers of the round before may be deleted."""
        ...
