"""Fast-slow chasing (OFS-DPO): a fast and a slow policy on one stream of pairs, combined across domains (COFS)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from equipoise.core.objectives import Dpo
from equipoise.play.capabilities import LossEvaluation, ParameterAverages, needing
from equipoise.play.needs import PAIRS, Needs
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, SLOW, START, State
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World

Indices = npt.NDArray[np.intp]
FAST = "fast"  # the fast policy at the end of a domain, before it is combined
KEPT = "kept"  # the combination over the domains so far
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # candidate weights of the newest domain


@dataclass(frozen=True, kw_only=True)
class FastSlow(Update):
    """Gradient steps of a fast and a slow policy on the same pairs (objective `FastSlowDpo`).

        fast:  L_DPO + chase L_FS at full speed        slow:  L_DPO - chase L_FS at `speed`

    Both steps start from the policies at the start of the round. Roles are assigned first: the policy with the lower
    mean L_DPO on the round's new pairs becomes the fast one, which is the run's policy; its optimizer state moves
    with it. chase = 0 gives two independent runs of DPO.

    rate     as in `Descend`.
    speed    learning rate of the slow policy, relative to the fast one's.

    Source: Qi et al. 2024 (2406.05534), Algorithm 1 as read in a third party's code; how often roles change
    (here once per round) and the two learning rates were not recovered.
    """

    rate: float = 0.1
    speed: float = 0.5
    memory: ClassVar[tuple[str, ...]] = (SLOW,)
    parameters: ClassVar[tuple[str, ...]] = ("rate", "speed")
    capabilities: ClassVar[tuple[type, ...]] = (LossEvaluation,)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        return self.chase(method, world, state, rows, anchors, name=POLICY)

    def chase(
        self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors, *, name: str
    ) -> Moved:
        """The round's two steps; `name` is that of the fast policy's result."""
        dpo = Dpo(beta=method.parameters()["beta"])
        reference = {"reference": anchors["reference"]}
        losses = needing(world, LossEvaluation)
        fast, slow = (losses.loss(state, rows, reference, dpo, of=who) for who in (START, SLOW))
        if slow < fast:
            state = state.with_policies(**{START: state.policies[SLOW], SLOW: state.policies[START]})
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
        return "gradient steps of a fast and a slow policy (fast-slow chasing)"


@dataclass(frozen=True, kw_only=True)
class CrossDomainFastSlow(Update):
    """Fast-slow chasing across domains: at a domain's end its fast policy is combined with the earlier domains'.

        theta_1 = F_1,    theta_k = (1 - w) theta_{k-1} + w F_k,    w in {0, 1/4, 1/2, 3/4, 1}

    F_k is the fast policy after domain k, so theta_k is a linear combination of F_1..F_k with weights that sum to 1.
    w minimises the mean L_DPO on `recall` pairs of each domain seen so far. Both policies continue from theta_k. For
    LoRA the weight updates B A are combined, as closely as the adapter's rank allows (`policy.lora`): exactly if the
    adapters' directions fit into it.

    stay     rounds in a domain, as in `ByDomain`.

    Source: Qi et al. 2024 (2406.05534), COFS-DPO: a linear combination of the domains' fast modules. That the
    weights are chosen on a small memory of earlier domains is RECALLED; choosing them one domain at a time, and
    going on from the combination, is DERIVED.
    """

    base: FastSlow = field(default_factory=FastSlow)
    stay: int = 20
    recall: int = 64
    parameters: ClassVar[tuple[str, ...]] = ("stay", "recall")
    needs: ClassVar[Needs] = PAIRS
    capabilities: ClassVar[tuple[type, ...]] = (LossEvaluation, ParameterAverages)

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, KEPT)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        if state.round % self.stay:
            return self.base.move(method, world, state, rows, anchors)
        moved = self.base.chase(method, world, state, rows, anchors, name=FAST)
        after = state.with_policies(**{FAST: moved[START]})
        first = state.round == self.stay
        share = 1.0 if first else self._share(method, world, after, state.round // self.stay)
        best = needing(world, ParameterAverages).combine(
            after, {KEPT: 1 - share, FAST: share}, name=POLICY, products=True
        )
        return {START: best, SLOW: best, KEPT: best}

    def _share(self, method: Rules, world: World, state: State, domains: int) -> float:
        """Weight of the newest of `domains` domains."""
        known = world.recorded(state)
        known = known.take(np.concatenate([_some(known, k, self.recall) for k in range(domains)]))
        dpo = Dpo(beta=method.parameters()["beta"])
        anchors = world.anchors(state, known, {"reference": method.anchors["reference"]})

        def lost(share: float) -> float:
            mixed = needing(world, ParameterAverages).combine(
                state, {KEPT: 1 - share, FAST: share}, name=f"share-{share:g}", products=True
            )
            return needing(world, LossEvaluation).loss(
                state.with_policies(mixed=mixed), known, anchors, dpo, of="mixed"
            )

        return min(SHARES, key=lost)

    def describe(self) -> str:
        return f"{self.base.describe()}; after every {self.stay} rounds combined with earlier domains"


def _some(rows: Rows, domain: int, count: int) -> Indices:
    """Indices of `count` evenly spaced rows of a domain."""
    own = np.flatnonzero(rows.domains == domain)
    return own[np.linspace(0, len(own) - 1, min(count, len(own))).astype(int)]
