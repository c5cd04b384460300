"""Fast-slow chasing: two policies learn one stream of pairs; over several domains, their best are combined."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from equipoise.core.objectives import Dpo
from equipoise.play.rows import Rows
from equipoise.play.updates import Anchors, Moved
from equipoise.play.world import POLICY, SLOW, START, State, World

if TYPE_CHECKING:
    from equipoise.play.method import Method

Indices = npt.NDArray[np.intp]

FAST = "fast"  # the fast policy at the end of a domain, before it is combined
KEPT = "kept"  # the combination of the domains before
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the newest domain, to choose from


@dataclass(frozen=True, kw_only=True)
class Chasing:
    """Gradient steps of two policies on the same pairs, each contested by the other (objective `Ofs`).

        fast:  L_DPO + chase L_FS at full speed        slow:  L_DPO - chase L_FS at `speed`

    Both steps are taken from the policies at the start of the round. Before them the roles are given out: the
    policy whose mean L_DPO on the round's new pairs is lower is the fast one, which is the run's policy; its
    optimizer state goes with it. chase = 0 makes two independent runs of DPO.

    rate     as in `Descend`.
    speed    learning rate of the slow policy, as a share of the fast one's.

    Source: Qi et al. 2024 (2406.05534), Algorithm 1 as read in a third party's code; how often roles change
    (here once a round) and the two learning rates were not recovered.
    """

    rate: float = 0.1
    speed: float = 0.5
    memory: ClassVar[tuple[str, ...]] = (SLOW,)
    parameters: ClassVar[tuple[str, ...]] = ("rate", "speed")

    def move(self, method: Method, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        return self.chase(method, world, state, rows, anchors, name=POLICY)

    def chase(
        self, method: Method, world: World, state: State, rows: Rows, anchors: Anchors, *, name: str
    ) -> Moved:
        """The round's two steps, the fast policy's result under the given name."""
        dpo = Dpo(beta=method.parameters()["beta"])
        reference = {"reference": anchors["reference"]}
        fast, slow = (world.loss(state, rows, reference, dpo, of=who) for who in (START, SLOW))
        if slow < fast:
            state = state.meeting(**{START: state.policies[SLOW], SLOW: state.policies[START]})
            anchors = world.anchors(state, rows, method.anchors)
        chased = world.anchors(state, rows, {**method.anchors, "rival": START})
        contest: Any = method.objective
        ahead = world.descend(state, rows, anchors, contest, rate=self.rate, name=name)
        behind = world.descend(
            state,
            rows,
            chased,
            replace(contest, slow=True),
            rate=self.rate,
            speed=self.speed,
            start=SLOW,
            name=SLOW,
        )
        return {START: ahead, SLOW: behind}

    def describe(self) -> str:
        return "gradient steps of a fast and a slow policy that chase each other"


@dataclass(frozen=True, kw_only=True)
class Combined:
    """Fast-slow chasing domain by domain; at a domain's end the fast policy joins those of the domains before.

        theta_1 = F_1,    theta_k = (1 - w) theta_{k-1} + w F_k,    w in {0, 1/4, 1/2, 3/4, 1}

    F_k is the fast policy after domain k, so theta_k is a linear combination of F_1..F_k whose weights sum to
    1. w is that with the least mean L_DPO on `recall` pairs of each domain seen so far. Both policies go on from
    theta_k. For LoRA it is the products B A that are combined, what an adapter adds to the weights, as nearly as the
    adapter's rank allows (`policy.lora`): exactly where the adapters' directions fit into it.

    stay     rounds in a domain, as in `ByDomain`.

    Source: Qi et al. 2024 (2406.05534), COFS-DPO: a linear combination of the domains' fast modules. That the
    weights are chosen on a small memory of earlier domains is RECALLED; choosing them one domain at a time, and
    going on from the combination, is DERIVED.
    """

    base: Chasing = field(default_factory=Chasing)
    stay: int = 20
    recall: int = 64
    parameters: ClassVar[tuple[str, ...]] = ("stay", "recall")

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, KEPT)

    def move(self, method: Method, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        if state.round % self.stay:
            return self.base.move(method, world, state, rows, anchors)
        moved = self.base.chase(method, world, state, rows, anchors, name=FAST)
        after = state.meeting(**{FAST: moved[START]})
        first = state.round == self.stay
        share = 1.0 if first else self._share(method, world, after, state.round // self.stay)
        best = world.combine(after, {KEPT: 1 - share, FAST: share}, name=POLICY, products=True)
        return {START: best, SLOW: best, KEPT: best}

    def _share(self, method: Method, world: World, state: State, domains: int) -> float:
        """Weight of the newest domain, of `domains` so far."""
        known = world.recorded(state)
        known = known.take(np.concatenate([_some(known, k, self.recall) for k in range(domains)]))
        dpo = Dpo(beta=method.parameters()["beta"])
        anchors = world.anchors(state, known, {"reference": method.anchors["reference"]})

        def lost(share: float) -> float:
            mixed = world.combine(
                state, {KEPT: 1 - share, FAST: share}, name=f"share-{share:g}", products=True
            )
            return world.loss(state.meeting(mixed=mixed), known, anchors, dpo, of="mixed")

        return min(SHARES, key=lost)

    def describe(self) -> str:
        return f"{self.base.describe()}; after every {self.stay} rounds combined with what was"


@dataclass(frozen=True, kw_only=True)
class ByDomain:
    """The data's pairs, one domain after another: `stay` rounds in each, then the next, and at last the first again.

    parts   as in `Recorded`, within the domain.

    Domains are the data's files, in their order; in the language game the hours of the day; in an exact game
    every prompt is one.
    """

    stay: int = 20
    parts: int = 20
    parameters: ClassVar[tuple[str, ...]] = ("stay", "parts")

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state)
        domain = _domain(rows)
        own = np.flatnonzero(domain == (state.round - 1) // self.stay % (domain.max(initial=0) + 1))
        return rows.take(own[(state.round - 1) % self.parts :: self.parts])

    def writing(self, samples: int) -> ByDomain:
        raise ValueError("the data's pairs are all there is; nobody writes responses")

    def describe(self) -> str:
        return f"recorded pairs, {self.stay} rounds in each domain"


def _domain(rows: Rows) -> Indices:
    return np.zeros(len(rows), dtype=np.intp) if rows.domain is None else rows.domain


def _some(rows: Rows, domain: int, count: int) -> Indices:
    """Indices of `count` rows of a domain, evenly spread."""
    own = np.flatnonzero(_domain(rows) == domain)
    return own[np.linspace(0, len(own) - 1, min(count, len(own))).astype(int)]
