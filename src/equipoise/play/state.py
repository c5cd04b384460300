"""The state of a game: which policy each name means, and the policies that can be derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
# The policies a round can speak of. A method's anchors, players and opponents refer to these names only.
INITIAL = "initial"  # the policy the run started from
START = "start"  # the policy at the start of this round (pi_t; "self")
BEFORE = "before"  # the policy at the start of the round before (in round 1: the initial policy)
OPPONENT = "opponent"  # whom responses are compared with: the policy itself, unless an update says otherwise
UNIFORM = "uniform"  # every response alike; exact games only
# Policies that an update keeps from round to round (`Update.memory`); all start as the initial policy.
MAGNET = "magnet"  # what a magnetic method is pulled to
LAZY = "lazy"  # the undecided sequence of an optimistic method (pi')
FITTED = "fitted"  # the last fit before it was extrapolated
AVERAGE = "average"  # a moving average of the policies
SLOW = "slow"  # the slower of two chasing policies
REACHED = "reached"  # where an update stood when it last began again
TEACHER = "teacher"  # what rewards tokens; trained in round 1
POLICY = "policy"  # the name of a round's main fit


@dataclass(frozen=True, kw_only=True)
class Geometric:
    """The mixture base^(1 - share) * other^share, normalised.

    Exact in a finite game. A language model mixes next-token log-probs and renormalises each token, which is
    not the mixture of sequences (Munos et al. 2023 do the same).
    """

    share: float
    base: str = START
    other: str = INITIAL

    def __str__(self) -> str:
        return f"{self.base}^{1 - self.share:g} {self.other}^{self.share:g}"


@dataclass(frozen=True)
class Past:
    """A policy drawn uniformly from the starting policies of this round and all before, anew for each prompt."""

    def __str__(self) -> str:
        return "past"


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """start + scale v, v the unit vector that `World.nudge` draws in this round."""

    scale: float
    block: int = 0
    start: str = START
    direction: str = "zeroth-order"

    def __str__(self) -> str:
        return f"{self.start} nudged"


@dataclass(frozen=True, kw_only=True)
class Tilted:
    """pi exp(logit P(y beats y_b)/beta)/Z, y_b the first response of the row; exact games only."""

    beta: float
    by: str = INITIAL

    def __str__(self) -> str:
        return f"{self.by} tilted"


Who = str | Geometric | Past | Perturbation | Tilted


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run stands: how many rounds are done, and which policy each name means.

    A policy is whatever its world understands: a table, or the name of a checkpoint. There is no random
    state: every draw is addressed by name (`state.seeds`), so a resumed run draws what it would have drawn.

    past    the starting policies of the rounds before this one, if anybody asks for them; else empty.
    """

    round: int
    policies: Mapping[str, Any]
    past: tuple[Any, ...] = ()
    keep_past: bool = False

    @classmethod
    def begin(cls, initial: Any, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
        names = (INITIAL, START, BEFORE, OPPONENT, *memory)
        return cls(round=1, policies=dict.fromkeys(names, initial), keep_past=keep_past)

    def advance(self, moved: Mapping[str, Any]) -> State:
        """The next round, with the policies that `moved`: its starting policy, and what the update keeps."""
        new = moved[START]
        policies = {**self.policies, BEFORE: self.policies[START], OPPONENT: new, **moved}
        past = (*self.past, self.policies[START]) if self.keep_past else ()
        return replace(self, round=self.round + 1, policies=policies, past=past)

    def with_policies(self, **policies: Any) -> State:
        """The same round with other policies under the given names."""
        return replace(self, policies={**self.policies, **policies})
