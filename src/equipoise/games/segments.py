"""Preferences between trajectory segments of a small decision process: partial return and regret models, exactly.

world = DeterministicMdp(successor=..., terminal=..., discount=0.95)
segments = walks(world, starts, actions)
P = sigmoid(score(world, reward, first) - score(world, reward, second))     score: partial_return or minus regret
reward = fit_reward(world, first, second, wins, model="regret")

Rewards have leading dimensions for independent copies (seeds), which share the world. Sources: Knox et al. 2022
(2206.02231), regret against partial return; Knox et al. 2023 (2310.02456), what the wrong model learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from equipoise.games.tokens import TokenTree

StateActions: TypeAlias = Float[Tensor, "*seeds S A"]
States: TypeAlias = Float[Tensor, "*seeds S"]
IsTerminal: TypeAlias = Bool[Tensor, "S"]
PerSegment: TypeAlias = Float[Tensor, "*seeds N"]
Model: TypeAlias = Literal["partial_return", "regret"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeterministicMdp:
    """Finite deterministic MDP: in state s action a leads to successor[s, a]; nothing follows a terminal state.

    successor    [S, A] indices of states; rows of terminal states are not read.
    terminal     [S]; their value is 0.
    discount     g in (0, 1]. At 1 optimal values need rewards under which no cycle pays.

    Raises ValueError for other shapes, a state out of range or a discount outside (0, 1].
    """

    successor: Int[Tensor, "S A"]
    terminal: IsTerminal
    discount: float = 1.0

    def __post_init__(self) -> None:
        if self.successor.ndim != 2 or self.terminal.shape != self.successor.shape[:1]:
            raise ValueError(
                f"successor must be [states, actions] and terminal [states]: {tuple(self.successor.shape)}, "
                f"{tuple(self.terminal.shape)}"
            )
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount must lie in (0, 1], got {self.discount!r}")
        if not bool(((self.successor >= 0) & (self.successor < len(self.successor))).all()):
            raise ValueError(f"a successor is none of the {len(self.successor)} states")

    @classmethod
    def of_tree(cls, tree: TokenTree) -> DeterministicMdp:
        """Writing a response: states are the tree's prefixes, then its responses, which are terminal; undiscounted."""
        nodes, words = len(tree.prefixes) + len(tree.responses), len(tree.words)
        ends = torch.arange(len(tree.prefixes), nodes)
        return cls(
            successor=torch.cat([tree.child, ends[:, None].expand(-1, words)]),
            terminal=torch.arange(nodes) >= len(tree.prefixes),
        )

    def action_values(self, reward: StateActions, value: States) -> StateActions:
        """Q(s, a) = r(s, a) + g V(successor), 0 for terminal states."""
        self._check(reward)
        found = reward + self.discount * value[..., self.successor]
        return found.masked_fill(self.terminal[:, None], 0.0)

    @torch.no_grad()
    def greedy(self, reward: StateActions) -> Int[Tensor, "*seeds S"]:
        """An optimal action in every state, exactly: by policy iteration, or without discount by Bellman and Ford.

        Raises ValueError where undiscounted values do not exist: a cycle pays, or no end can be reached.
        """
        if self.discount == 1:
            return self.action_values(reward, self._longest_path(reward)).argmax(dim=-1)
        actions = self.action_values(reward, reward.new_zeros(reward.shape[:-1])).argmax(dim=-1)
        while True:
            found = self.action_values(reward, self.value(reward, actions))
            now = found.gather(-1, actions.unsqueeze(-1))
            better = found > now + 1e-10 * (
                1 + now.abs()
            )  # rounding must not exchange equal actions for ever
            if not bool(better.any()):
                return actions
            actions = torch.where(better.any(dim=-1), found.argmax(dim=-1), actions)

    def _longest_path(self, reward: StateActions) -> States:
        start = reward.new_full(reward.shape[:-1], -torch.inf).masked_fill(self.terminal, 0.0)
        value = start
        for _ in range(len(self.terminal) + 1):
            before, value = value, self.action_values(reward, value).amax(dim=-1)
        if bool((value > before + 1e-9 * (1 + before.abs())).any()):
            raise ValueError("without discount a cycle of states pays: values grow without end")
        if bool(value.isneginf().any()):
            raise ValueError("without discount every state must lead to a terminal one")
        return value

    def value(self, reward: StateActions, actions: Int[Tensor, "*seeds S"]) -> States:
        """Value of always taking these actions, V = r + g P V solved exactly; differentiable in the reward."""
        self._check(reward)
        states = len(self.terminal)
        going = (~self.terminal).to(reward)
        after = self.successor.expand(*actions.shape, -1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        moves = torch.nn.functional.one_hot(after, states).to(reward) * (self.discount * going).unsqueeze(-1)
        earned = reward.gather(-1, actions.unsqueeze(-1)).squeeze(-1) * going
        return torch.linalg.solve(torch.eye(states).to(reward) - moves, earned)

    def optimal_value(self, reward: StateActions) -> States:
        """V*, differentiable: its gradient is that of the value of a greedy policy held fixed (envelope theorem)."""
        return self.value(reward, self.greedy(reward.detach()))

    def _check(self, reward: Tensor) -> None:
        if reward.shape[-2:] != self.successor.shape:
            raise ValueError(
                f"reward must be [..., {', '.join(map(str, self.successor.shape))}]: {tuple(reward.shape)}"
            )


class Segments(NamedTuple):
    """Trajectory segments: states [..., N, h + 1] that were passed, actions [..., N, h] that were taken."""

    states: Tensor
    actions: Tensor


def walks(world: DeterministicMdp, starts: Int[Tensor, "*N"], actions: Int[Tensor, "*N h"]) -> Segments:
    """The segments that begin at `starts` and take `actions`. Raises ValueError if one acts in a terminal state."""
    states = [starts]
    for step in range(actions.shape[-1]):
        if bool(world.terminal[states[-1]].any()):
            raise ValueError("a segment acts in a terminal state; it must end there")
        states.append(world.successor[states[-1], actions[..., step]])
    return Segments(torch.stack(states, dim=-1), actions)


def partial_return(world: DeterministicMdp, reward: StateActions, segments: Segments) -> PerSegment:
    """Partial return of a segment: sum_t g^t r(s_t, a_t), in the reward's unit."""
    earned = _at(reward.flatten(-2), segments.states[..., :-1] * reward.shape[-1] + segments.actions)
    return earned @ world.discount ** torch.arange(earned.shape[-1], dtype=reward.dtype)


def regret(world: DeterministicMdp, reward: StateActions, segments: Segments) -> PerSegment:
    """Regret of a segment from b to e of h steps: V*(b) - ( sum_t g^t r(s_t, a_t) + g^h V*(e) ), at least 0.

    0 exactly for optimal actions, whatever they earn. The sum of -g^t A*(s_t, a_t): adding g phi(s') - phi(s), with
    phi 0 at terminal states, to the reward changes nothing. Where all segments begin in one state and end in
    terminal ones, as responses to a prompt do, minus regret is partial return less a constant.
    """
    value = world.optimal_value(reward)
    ends = _at(value, segments.states[..., [0, -1]])
    later = world.discount ** segments.actions.shape[-1]
    return ends[..., 0] - partial_return(world, reward, segments) - later * ends[..., 1]


def preference_logit(
    world: DeterministicMdp, reward: StateActions, first: Segments, second: Segments, model: Model
) -> PerSegment:
    """Logit of P(first segment preferred to second): difference of partial returns, or of regrets the other way round.

    Raises ValueError for another model.
    """
    if model == "partial_return":
        return partial_return(world, reward, first) - partial_return(world, reward, second)
    if model == "regret":
        both = Segments(*(torch.cat(pair, dim=-2) for pair in zip(first, second, strict=True)))
        one, other = regret(world, reward, both).split(
            [first.actions.shape[-2], second.actions.shape[-2]], dim=-1
        )
        return other - one
    raise ValueError(f"a preference model is 'partial_return' or 'regret', got {model!r}")


def fit_reward(
    world: DeterministicMdp,
    first: Segments,
    second: Segments,
    wins: PerSegment,
    model: Model,
    *,
    steps: int = 500,
    rate: float = 0.2,
    decay: float = 1e-3,
) -> StateActions:
    """Reward table learnt from segment preferences: maximum likelihood under a preference model, by Adam from 0.

        minimise   mean cross-entropy(wins, sigma(logit)) + decay/2 |r|^2

    wins     [*seeds, N] labels, P(first preferred) in [0, 1].
    decay    a small pull to 0: what the labels do not determine stays there.

    V* is solved again for the reward of each step. The regret model's likelihood is not concave: with small steps Adam
    stays at a poor optimum, which the defaults leave. Copies share nothing; their losses are summed.
    """
    reward = torch.zeros(*wins.shape[:-1], *world.successor.shape, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([reward], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        logit = preference_logit(world, reward, first, second, model)
        loss = binary_cross_entropy_with_logits(logit, wins.to(logit), reduction="none").mean(dim=-1)
        total = loss.sum() + decay / 2 * reward.square().sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
    return reward.detach()


def _at(table: Tensor, index: Tensor) -> Tensor:
    """Entries of table [*seeds, M] at index [*seeds, N, k]."""
    if table.ndim == 1:
        return table[index]
    return table.gather(-1, index.flatten(-2)).unflatten(-1, index.shape[-2:])
