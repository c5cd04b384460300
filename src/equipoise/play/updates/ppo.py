"""Updates on token rewards: PPO's round, and RTO's, whose rewards a policy trained by DPO gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.core.advantages import at_last, gae, implicit_reward, returns, whiten
from equipoise.core.objectives import Dpo
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, START, TEACHER, State
from equipoise.play.updates.basic import Descend
from equipoise.play.updates.protocol import Rules, Update
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class TokenAdvantages:
    """Any update, on the advantages of the round's tokens in place of their responses' rewards.

        r_k = 1[k = |y|] R(y) - tau [ log pi_t(y_k|y_<k) - log pi_ref(y_k|y_<k) ]
        A   = GAE(r, V; gamma = 1, lam), then whitened over all tokens of the round

    R        the response's reward, as the pairing gave it; paid at the last token, cut off or not.
    tau      weight of the KL charge of the policy that wrote the responses (k1), >= 0.
    V        the value of a prefix, see `World.token_values`; fitted anew in every round, before the policy moves.
    whiten   mean 0 and deviation 1. An exact game leaves it out: it would keep the step from fading.

    Advantages are data of the round: what is ascended is the same whichever comparison a step looks at.
    """

    base: Update = field(default_factory=Descend)
    tau: float = 0.05
    lam: float = 0.95
    whiten: bool = True
    memory: ClassVar[tuple[str, ...]] = ()
    parameters: ClassVar[tuple[str, ...]] = ("tau", "lam", "whiten")

    def __post_init__(self) -> None:
        if not self.tau >= 0 or not 0 <= self.lam <= 1:
            raise ValueError(f"tau must be >= 0 and lam in [0, 1], got {self.tau!r} and {self.lam!r}")

    def move(
        self, method: Rules, world: World, state: State, rows: Rows, anchors: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        return self.base.move(method, world, state, self.advantages(world, state, rows), anchors)

    def advantages(self, world: World, state: State, rows: Rows) -> Rows:
        """The rows with [N, K, T] advantages as rewards."""
        reward, mask = self.rewards(world, state, rows)
        found = gae(reward, world.token_values(state, rows, returns(reward)), lam=self.lam)
        if self.whiten:
            found = whiten(found, torch.from_numpy(rows.weight)[:, None, None] * mask)
        return replace(rows, reward=found.numpy())

    def rewards(self, world: World, state: State, rows: Rows) -> tuple[Tensor, Tensor]:
        """([N, K, T] rewards of the tokens, [N, K, T] True where there is one)."""
        own, mask = world.token_logps(state, rows, START)
        reference, _ = world.token_logps(state, rows, INITIAL)
        sentence = np.zeros(rows.responses.shape) if rows.reward is None else rows.reward
        return at_last(torch.from_numpy(sentence), mask) - self.tau * (own - reference), mask

    def describe(self) -> str:
        return f"advantages of tokens, then {self.base.describe()}"


@dataclass(frozen=True, kw_only=True)
class TeacherRewards(TokenAdvantages):
    """`TokenAdvantages` with token rewards from a teacher, which DPO trains on the recorded pairs in round 1.

        r_k = clip( beta1 [ log pi_dpo(y_k|y_<k) - log pi_ref(y_k|y_<k) ], -cap, cap )
              - tau [ log pi_t(y_k|y_<k) - log pi_ref(y_k|y_<k) ] + 1[k = |y|] sentence R(y)

    beta       DPO's own, of the teacher.
    beta1      weight of the teacher's rewards, >= 0; 0 is `TokenAdvantages`. tau is RTO's beta2.
    cap        bound of a token's reward, after scaling, > 0; infinity for none.
    sentence   weight of the response's reward, >= 0; 0 leaves the teacher's alone.
    """

    beta: float = 0.1
    beta1: float = 0.05
    cap: float = 0.05
    sentence: float = 1.0
    memory: ClassVar[tuple[str, ...]] = (TEACHER,)
    parameters: ClassVar[tuple[str, ...]] = (*TokenAdvantages.parameters, "beta", "beta1", "cap", "sentence")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta1 >= 0 or not self.sentence >= 0 or not self.cap > 0:
            raise ValueError(
                "beta1 and sentence must be >= 0 and cap positive, got "
                f"{self.beta1!r}, {self.sentence!r} and {self.cap!r}"
            )

    def move(
        self, method: Rules, world: World, state: State, rows: Rows, anchors: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        teacher = self.taught(world, state) if state.round == 1 else state.policies[TEACHER]
        met = state.with_policies(**{TEACHER: teacher})
        return {TEACHER: teacher, **super().move(method, world, met, rows, anchors)}

    def taught(self, world: World, state: State) -> Any:
        """The policy that DPO makes of the initial one with all recorded pairs."""
        objective, pairs = Dpo(beta=self.beta), world.recorded(state)
        anchors = world.anchors(state, pairs, {"reference": INITIAL})
        return world.fit(state, pairs, anchors, objective, start=INITIAL, name=TEACHER)

    def rewards(self, world: World, state: State, rows: Rows) -> tuple[Tensor, Tensor]:
        sentence = None if rows.reward is None else self.sentence * rows.reward
        reward, mask = super().rewards(world, state, replace(rows, reward=sentence))
        (teacher, _), (reference, _) = (world.token_logps(state, rows, p) for p in (TEACHER, INITIAL))
        return reward + implicit_reward(teacher, reference, beta=self.beta1, clip=self.cap), mask

    def describe(self) -> str:
        return f"a teacher by DPO in round 1; {super().describe()}"
