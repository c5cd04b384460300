"""Token-level advantages (PPO), and token rewards from a policy trained by DPO (RTO)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from equipoise.core.advantages import at_last, gae, implicit_reward, returns, whiten
from equipoise.core.objectives import Dpo
from equipoise.play.capabilities import Critics, TokenValues, needing
from equipoise.play.needs import PAIRS, Needs
from equipoise.play.rows import Rows
from equipoise.play.state import CRITIC, INITIAL, START, TEACHER, State
from equipoise.play.updates.basic import Descend
from equipoise.play.updates.protocol import Anchors, Moved, Rules, Update
from equipoise.play.world import World

TokenRewards = tuple[Tensor, Tensor]  # [N, K, T] token rewards, [N, K, T] mask: True at tokens


@dataclass(frozen=True, kw_only=True)
class TokenAdvantages(Update):
    """Any update on token-level advantages (GAE) instead of response rewards.

        r_k = 1[k = |y|] R(y) - tau [ log pi_t(y_k|y_<k) - log pi_ref(y_k|y_<k) ]
        A   = GAE(r, V; gamma = 1, lam), then whitened over all tokens of the round

    R        the response's reward from the pairing; paid at the last token, also of a truncated response.
    tau      weight of the KL penalty on the policy that wrote the responses (k1 estimate), >= 0.
    V        the value of a prefix. critic = "network": a value head on a copy of the policy (`Critics`), trained after
             every round by the clipped value loss on A + V and kept to the next; the round's own values are those from
             before. "regression": a linear regression of the round's returns (`TokenValues`), from scratch in every
             round; in an exact game their mean.
    critic_rate, value_clip   of the value network: learning rate as a multiple of the policy's, and clip of its loss.
    whiten   normalise to mean 0 and standard deviation 1. Exact games omit it: the step would not vanish at an optimum.

    Advantages are constants of the round: all its optimizer steps use the same ones.
    """

    base: Update = field(default_factory=Descend)
    tau: float = 0.05
    lam: float = 0.95
    whiten: bool = True
    critic: Literal["network", "regression"] = "network"
    critic_rate: float = 18.0
    value_clip: float = 0.2
    parameters: ClassVar[tuple[str, ...]] = ("tau", "lam", "whiten", "critic", "critic_rate", "value_clip")

    def __post_init__(self) -> None:
        if not self.tau >= 0 or not 0 <= self.lam <= 1:
            raise ValueError(f"tau must be >= 0 and lam in [0, 1], got {self.tau!r} and {self.lam!r}")
        if self.critic not in ("network", "regression"):
            raise ValueError(f"critic must be network or regression, got {self.critic!r}")
        if not self.critic_rate > 0 or not self.value_clip > 0:
            raise ValueError(
                f"critic_rate and value_clip must be positive, got {self.critic_rate!r} and {self.value_clip!r}"
            )

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (TokenValues, Critics) if self.critic == "network" else (TokenValues,)

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, CRITIC) if self.critic == "network" else self.base.memory

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        return self.step(method, world, state, rows, anchors, self.rewards(world, state, rows))

    def step(
        self,
        method: Rules,
        world: World,
        state: State,
        rows: Rows,
        anchors: Anchors,
        rewards: TokenRewards,
    ) -> Moved:
        """The base update on the advantages of these token rewards, then the critic's."""
        values = self.values(world, state, rows, rewards)
        moved = self.base.move(
            method, world, state, self.advantages(world, state, rows, rewards, values), anchors
        )
        if self.critic == "regression":
            return moved
        reward, mask = rewards
        fitted = needing(world, Critics).fit_critic(
            state,
            rows,
            values,
            (gae(reward, values, lam=self.lam) + values) * mask,
            critic=CRITIC,
            clip=self.value_clip,
            rate=self.critic_rate,
        )
        return {**moved, CRITIC: fitted}

    def values(self, world: World, state: State, rows: Rows, rewards: TokenRewards) -> Tensor:
        """[N, K, T] values V of the round."""
        if self.critic == "network":
            return needing(world, Critics).critic_values(state, rows, CRITIC)
        return needing(world, TokenValues).token_values(state, rows, returns(rewards[0]))

    def rewards(self, world: World, state: State, rows: Rows) -> TokenRewards:
        """Token rewards by the formula above."""
        values = needing(world, TokenValues)
        own, mask = values.token_logps(state, rows, START)
        reference, _ = values.token_logps(state, rows, INITIAL)
        sentence = np.zeros(rows.responses.shape) if rows.reward is None else rows.reward
        return at_last(torch.from_numpy(sentence), mask) - self.tau * (own - reference), mask

    def advantages(
        self, world: World, state: State, rows: Rows, rewards: TokenRewards, values: Tensor | None = None
    ) -> Rows:
        """The rows with [N, K, T] advantages as rewards; values: None for those of the round."""
        reward, mask = rewards
        values = self.values(world, state, rows, rewards) if values is None else values
        advantage = gae(reward, values, lam=self.lam)
        if self.whiten:
            advantage = whiten(advantage, torch.from_numpy(rows.weight)[:, None, None] * mask)
        return replace(rows, reward=advantage.numpy())

    def describe(self) -> str:
        return f"token advantages, then {self.base.describe()}"


@dataclass(frozen=True, kw_only=True)
class TeacherRewards(Update):
    """`TokenAdvantages` with token rewards from a DPO policy (the teacher), trained on the recorded pairs in round 1.

        r_k = clip( beta1 [ log pi_dpo(y_k|y_<k) - log pi_ref(y_k|y_<k) ], -cap, cap )
              - tau [ log pi_t(y_k|y_<k) - log pi_ref(y_k|y_<k) ] + 1[k = |y|] sentence R(y)

    beta       of the DPO loss that trains the teacher.
    beta1      weight of the teacher's rewards, >= 0; 0 is `TokenAdvantages`. tau, of `base`, is RTO's beta2.
    cap        bound on a token's reward, after scaling, > 0; infinity for none.
    sentence   weight of the response's reward, >= 0; 0 uses the teacher's rewards only.
    """

    base: TokenAdvantages = field(default_factory=TokenAdvantages)
    beta: float = 0.1
    beta1: float = 0.05
    cap: float = 0.05
    sentence: float = 1.0
    parameters: ClassVar[tuple[str, ...]] = ("beta", "beta1", "cap", "sentence")
    needs: ClassVar[Needs] = PAIRS
    capabilities: ClassVar[tuple[type, ...]] = (TokenValues,)

    def __post_init__(self) -> None:
        if not self.beta1 >= 0 or not self.sentence >= 0 or not self.cap > 0:
            raise ValueError(
                "beta1 and sentence must be >= 0 and cap positive, got "
                f"{self.beta1!r}, {self.sentence!r} and {self.cap!r}"
            )

    @property
    def memory(self) -> tuple[str, ...]:
        return (*self.base.memory, TEACHER)

    def move(self, method: Rules, world: World, state: State, rows: Rows, anchors: Anchors) -> Moved:
        teacher = self.taught(world, state) if state.round == 1 else state.policies[TEACHER]
        met = state.with_policies(**{TEACHER: teacher})
        moved = self.base.step(method, world, met, rows, anchors, self.rewards(world, met, rows))
        return {TEACHER: teacher, **moved}

    def taught(self, world: World, state: State) -> Any:
        """The teacher: the initial policy trained by DPO on all recorded pairs."""
        objective, pairs = Dpo(beta=self.beta), world.recorded(state)
        anchors = world.anchors(state, pairs, {"reference": INITIAL})
        return world.fit(state, pairs, anchors, objective, start=INITIAL, name=TEACHER)

    def rewards(self, world: World, state: State, rows: Rows) -> TokenRewards:
        """Token rewards by the formula above."""
        sentence = None if rows.reward is None else self.sentence * rows.reward
        reward, mask = self.base.rewards(world, state, replace(rows, reward=sentence))
        values = needing(world, TokenValues)
        (teacher, _), (reference, _) = (values.token_logps(state, rows, p) for p in (TEACHER, INITIAL))
        return reward + implicit_reward(teacher, reference, beta=self.beta1, clip=self.cap), mask

    def describe(self) -> str:
        return f"a token-level reward model by DPO in round 1; {self.base.describe()}"
