"""The update protocol: how the policy moves in a round, and which other policies move with it.

An update is the last phase of a round (`play.round`). It is given the judged comparisons and the anchors' scores, and
makes policies with the verbs `fit` (to a minimum), `descend` (gradient steps) and, by capability, `combine`, `perturb`
and `fit_with`. Where it needs more than one comparison set it forms the pairing again and asks for `anchors` again.

    basic               refits, gradient, mirror, extragradient and optimistic steps, magnets, averages
    pool                a reference drawn from the past iterates
    ppo                 advantages of tokens, from rewards and from a teacher
    fast_slow           two policies that chase each other, domain by domain
    live_reference      references and auxiliary heads in memory, token weights
    reward_relearning   restarts with a reward that is learned again
    zeroth_order        steps along random directions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.play.component import Component
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.players.protocol import Players
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World

Anchors = Mapping[str, Tensor]
Moved = dict[str, Any]


class Rules(Protocol):
    """The part of a method that an update may read.

    objective    None if the method minimises no loss; `loss` is the same but raises ValueError then.
    anchors      the objective's anchor names -> policies.
    rounds       the method's horizon.
    """

    @property
    def name(self) -> str: ...

    @property
    def objective(self) -> Objective | None: ...

    @property
    def loss(self) -> Objective: ...

    @property
    def anchors(self) -> Mapping[str, str]: ...

    @property
    def players(self) -> Players: ...

    @property
    def pairing(self) -> Pairing: ...

    @property
    def rounds(self) -> int: ...

    def parameters(self) -> Mapping[str, Any]:
        """All parameters of the method by name."""
        ...


class Update(Component, Protocol):
    """How the policy moves in a round, and which other policies move with it."""

    @property
    def memory(self) -> tuple[str, ...]:
        """Names of the policies kept between rounds; all start as the initial policy."""
        return ()

    @property
    def fits(self) -> bool:
        """Whether a round minimises its objective on its comparisons; otherwise it takes a few gradient steps, and
        the rounds are many."""
        return False

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        """The policies that moved, by name; the next round's starting policy is START."""
        ...
