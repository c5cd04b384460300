"""The world protocol: the verbs by which a game is played, in a finite table or with a language model.

A round (`play.round`) has five phases, and each verb serves one:

    write     prompts, recorded, sample      the players' responses
    judge     compare, win_rates, past       the pairing's comparisons and labels
    freeze    anchors                        scores under the frozen policies, once
    move      fit, descend                   the update's new policies
    keep      stage, settle                  resuming: a finished phase is read back, a finished round is durable

Whatever one family of methods asks for in addition is a protocol in `play.capabilities`.
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
    """What differs between a finite table and a transformer."""

    def prompts(self, state: State) -> Rows:
        """This round's prompts: rows without responses."""
        ...

    def recorded(self, state: State) -> Rows:
        """Recorded pairs with their labels."""
        ...

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        """The comparisons of `back` rounds ago, or the result of another stage; None before the first round."""
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

        For text, `opponents` fresh responses of `against` are sampled for each prompt; with opponents = 0 each
        response meets the others of its row, all by one policy (leave one out).
        """
        ...

    def anchors(
        self, state: State, rows: Rows, names: Mapping[str, str], *, tokens: bool = False
    ) -> dict[str, Tensor]:
        """Frozen scores [N, K] under each anchor; `names` maps the objective's anchors to policies.

        With `tokens`, for an objective that reads them, text gives [N, K, T], one for each token and 0 where a response
        is over. In an exact game a response is one token: its tables stay as they are.
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

        name     what to call the result where a round makes several policies.
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
        logits (the A responses' probabilities make a gradient of order 1/A); for text the round's optimizer
        steps, with the optimizer's moments taken over from the policy it starts at. `speed` is a factor on both."""
        ...

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        """Run one stage of the round, or read back what an interrupted run had already finished."""
        ...

    def settle(self, state: State) -> State:
        """Make a new round's state durable; what the round before left behind may go."""
        ...
