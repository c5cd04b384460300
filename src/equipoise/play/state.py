"""Game state: the named policies of a round, and policies derived from them (mixtures, perturbations)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
# Names of a round's policies. A method's anchors, players and opponents refer to these names only.
INITIAL = "initial"  # the policy the run started from
BASE = "base"  # the policy before the run's phases; without phases the initial policy
START = "start"  # the policy at the start of this round (pi_t; "self")
BEFORE = "before"  # the policy at the start of the round before (in round 1: the initial policy)
OPPONENT = "opponent"  # opponent in comparisons: the policy itself, unless an update says otherwise
UNIFORM = "uniform"  # uniform distribution over responses; exact games only
# Policies that an update keeps from round to round (`Update.memory`); all start as the initial policy.
MAGNET = "magnet"  # the regularisation target of magnetic mirror descent
LAZY = "lazy"  # the secondary (lazy) iterate of optimistic mirror descent (pi')
FITTED = "fitted"  # the last fit before extrapolation
AVERAGE = "average"  # a moving average of the policies
SLOW = "slow"  # the slow policy of fast-slow chasing
POOLED = "pooled"  # the reference of a round, drawn from the pool of past iterates
REACHED = "reached"  # the policy reached before the last restart
TEACHER = "teacher"  # token-level reward model (a DPO policy), trained in round 1
CRITIC = "critic"  # value network: a copy of the policy with a value head
POLICY = "policy"  # the name of a round's main fit
# Writers of responses that are no policy of the run.
RECORDED = "recorded"  # the data
TAUGHT = "taught"  # a model behind a server (`play.teacher`)


@dataclass(frozen=True, kw_only=True)
class Geometric:
    """Geometric mixture base^(1 - share) * other^share, normalised.

    Exact in a finite game. A language model mixes next-token log-probs and renormalises at each token, which is not
    the geometric mixture of sequences (Munos et al. 2023 do the same).
    """

    share: float
    base: str = START
    other: str = INITIAL

    def __str__(self) -> str:
        return f"{self.base}^{1 - self.share:g} {self.other}^{self.share:g}"


@dataclass(frozen=True)
class Past:
    """A past iterate, drawn for each prompt uniformly from the starting policies of this and all earlier rounds."""

    def __str__(self) -> str:
        return "past"


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Random perturbation start + scale v, v the unit vector drawn for this round (`capabilities.Perturbations`)."""

    scale: float
    block: int = 0
    start: str = START
    direction: str = "zeroth-order"

    def __str__(self) -> str:
        return f"{self.start} nudged"


@dataclass(frozen=True, kw_only=True)
class Tilted:
    """Tilted policy pi exp(logit P(y beats y_b)/beta)/Z, y_b the first response of the row; exact games only."""

    beta: float
    by: str = INITIAL

    def __str__(self) -> str:
        return f"{self.by} tilted"


Who = str | Geometric | Past | Perturbation | Tilted


@dataclass(frozen=True, kw_only=True)
class State:
    """Position of a run: the current round, and the policy that each name refers to.

    A policy is whatever its world understands: a table, or the path of a checkpoint. There is no random state: every
    draw is addressed by name (`play.seeds`), so a resumed run draws what an uninterrupted one would.

    past    the starting policies of all earlier rounds if `keep_past`; else empty.
    draw    which draw of prompts and samples within the round: 0, and 1 for an extragradient's second one.
    """

    round: int
    policies: Mapping[str, Any]
    past: tuple[Any, ...] = ()
    keep_past: bool = False
    draw: int = 0

    @property
    def address(self) -> tuple[int, ...]:
        """Where the round's random numbers stand: the round and, from the second draw on, the draw."""
        return (self.round, self.draw) if self.draw else (self.round,)

    @classmethod
    def begin(cls, initial: Any, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
        names = (BASE, INITIAL, START, BEFORE, OPPONENT, *memory)
        return cls(round=1, policies=dict.fromkeys(names, initial), keep_past=keep_past)

    def advance(self, moved: Mapping[str, Any]) -> State:
        """The next round, with the policies in `moved`: its starting policy, and those that the update keeps."""
        new = moved[START]
        policies = {**self.policies, BEFORE: self.policies[START], OPPONENT: new, **moved}
        past = (*self.past, self.policies[START]) if self.keep_past else ()
        return replace(self, round=self.round + 1, policies=policies, past=past)

    def with_policies(self, **policies: Any) -> State:
        """The same round with other policies under the given names."""
        return replace(self, policies={**self.policies, **policies})
