"""The table world: an exact finite game with enumerated responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.games.expectation import enumerate_data, loss
from equipoise.games.fit import gradient, minimise
from equipoise.games.offline import PairData, population
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy, mixture
from equipoise.play.capabilities import Activations, TokenWeighting
from equipoise.play.decoding import AS_SET, Decode
from equipoise.play.pairings.sampled import logit
from equipoise.play.rows import Rows
from equipoise.play.seeds import Seeds
from equipoise.play.state import (
    INITIAL,
    POLICY,
    START,
    UNIFORM,
    Floats,
    Geometric,
    Past,
    Perturbation,
    State,
    Tilted,
    Who,
)
from equipoise.worlds.random_direction import unit_direction
from equipoise.worlds.table.enumeration import comparisons, decoded, every_response


@dataclass(frozen=True)
class TableWorld:
    """A finite preference game as a world.

    data      recorded pairs; by default the population of pairs drawn i.i.d. from the reference policy and labelled
              by the game.
    solve     (game, state) -> closed-form result of a fit, for a method that has one; nothing is enumerated then, and
              everything around a fit (a second one, a magnet, an extrapolation) is played as usual.
    seed      of random directions, the only random draws here.
    remember  rounds whose comparisons are kept for replay.
    """

    game: PreferenceGame
    data: PairData | None = None
    solve: Callable[[PreferenceGame, State], TabularPolicy] | None = None
    seed: int = 0
    remember: int = 0
    kind: ClassVar[str] = "a finite game"
    judged: dict[int, Rows] = field(default_factory=dict, repr=False)
    made: dict[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)

    def prompts(self, state: State) -> Rows:
        rows = Rows(
            prompts=np.arange(self.game.prompts),
            responses=np.empty((self.game.prompts, 0), dtype=np.int64),
            weight=self.game.prompt_weight.numpy(),
            writers=(),
        )
        return rows.take(np.arange(0)) if self.solve else rows

    def recorded(self, state: State) -> Rows:
        if self.solve:
            return self.prompts(state).append(np.empty((0, 2), dtype=np.int64), "recorded")
        data = self.data or population(self.game, self.game.initial())
        pairs = enumerate_data(data.counts * self.game.prompt_weight[:, None, None])
        return Rows(
            prompts=pairs.prompts.numpy(),
            responses=pairs.responses.numpy(),
            weight=pairs.weight.numpy(),
            writers=("recorded", "recorded"),
            prob=np.ones(len(pairs.prompts)),
            domain=pairs.prompts.numpy(),
        )

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        return self.judged.get(state.round - back) if stage == "judging" else None

    def who(self, state: State, who: Who) -> TabularPolicy:
        """The named policy in this round."""
        if isinstance(who, Geometric):
            return self.who(state, who.base).geometric(self.who(state, who.other), who.share)
        if isinstance(who, Perturbation):
            scale, block = who.scale, who.block
            return self.perturb(state, who.start, scale=scale, direction=who.direction, block=block, name="")
        if isinstance(who, Past):
            return mixture([*state.past, state.policies[START]])
        if who == UNIFORM:
            return TabularPolicy(torch.zeros_like(self.game.reference))
        if isinstance(who, Tilted):
            raise ValueError(f"{who} depends on a row's first response, so it is no policy by itself")
        return state.policies[who]

    def sample(self, state: State, rows: Rows, by: Who, count: int, decode: Decode = AS_SET) -> Rows:
        if self.solve:
            return rows.append(np.empty((0, count), dtype=np.int64), str(by))
        for _ in range(count):
            rows = every_response(rows, decoded(self.distribution(state, rows, by), decode), str(by))
        return rows

    def distribution(self, state: State, rows: Rows, by: Who) -> Floats:
        """[N, A] probability of each response to each row's prompt."""
        if not isinstance(by, Tilted):
            return self.who(state, by).probs().numpy()[rows.prompts]
        wins = self.game.preference.numpy()[rows.prompts, :, rows.responses[:, 0]]
        tilt = torch.from_numpy(logit(wins) / by.beta)
        base = self.who(state, by.by).log_probs()[torch.from_numpy(rows.prompts)]
        return (base + tilt).softmax(dim=1).numpy()

    def rewrite(self, state: State, rows: Rows, by: Who, longest: int) -> Rows:
        return self.sample(state, rows, by, 1)

    def compare(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        every = np.arange(len(rows))
        a, b = rows.responses[every, first], rows.responses[every, second]
        return self.game.preference.numpy()[rows.prompts, a, b]

    def win_rates(
        self,
        state: State,
        rows: Rows,
        against: Who,
        opponents: int,
        of: Callable[[Floats], Floats],
        decode: Decode = AS_SET,
    ) -> Floats:
        scores = torch.from_numpy(of(self.game.preference.numpy()))
        met = torch.from_numpy(decoded(self.who(state, against).probs().numpy(), decode))
        rates = torch.einsum("xab,xb->xa", scores, met)
        return rates.numpy()[rows.prompts[:, None], rows.responses]

    def unrelated(self, state: State, rows: Rows) -> Rows:
        mass = np.zeros((self.game.prompts, self.game.actions))
        np.add.at(mass, (rows.prompts, rows.responses[:, 0]), rows.weight)
        others = mass.sum(axis=0) - mass if self.game.prompts > 1 else mass
        share = (others / others.sum(axis=1, keepdims=True))[rows.prompts]
        assert rows.reward is not None
        expanded = every_response(rows, share, "unrelated")
        label = np.repeat(rows.reward, (share > 0).sum(axis=1), axis=0)
        return replace(expanded, reward=np.concatenate([label, np.zeros_like(label)], axis=1))

    def prompt_features(self, state: State, rows: Rows) -> Tensor:
        return torch.eye(self.game.prompts, dtype=torch.float64)[torch.from_numpy(rows.prompts)]

    def anchors(
        self, state: State, rows: Rows, names: Mapping[str, str], *, tokens: bool = False
    ) -> dict[str, Tensor]:
        """Full tables [X, A]: a finite game knows the anchors' scores of all responses."""
        return {name: state.policies[policy].log_probs() for name, policy in names.items()}

    def token_logps(self, state: State, rows: Rows, policy: str) -> tuple[Tensor, Tensor]:
        logps = state.policies[policy].log_probs()[rows.prompts[:, None], rows.responses][..., None]
        return logps, torch.ones_like(logps, dtype=torch.bool)

    def token_weights(
        self, state: State, rows: Rows, by: TokenWeighting, policy: str
    ) -> Mapping[str, np.ndarray]:
        if isinstance(by, Activations):
            raise ValueError(
                "a finite game has no activations to weigh tokens by; this method needs a language model"
            )
        return {name: np.ones((*rows.responses.shape, 1)) for name in by.gives}  # one token is one step

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        logps = state.policies[policy].log_probs().numpy()[rows.prompts[:, None], rows.responses]
        return logps, np.ones_like(logps)

    def token_values(self, state: State, rows: Rows, returns: Tensor) -> Tensor:
        means = self.average(rows, returns.mean(dim=(1, 2)).numpy())
        return torch.from_numpy(means[rows.prompts])[:, None, None].expand_as(returns)

    def critic_values(self, state: State, rows: Rows, critic: str) -> Tensor:
        known = state.policies[critic]
        new = known is state.policies[INITIAL]
        values = torch.zeros(self.game.prompts).double() if new else known.logits[:, 0]
        return values[rows.prompts][:, None, None].expand(*rows.responses.shape, 1)

    def fit_critic(
        self,
        state: State,
        rows: Rows,
        before: Tensor,
        target: Tensor,
        *,
        critic: str,
        clip: float,
        rate: float,
    ) -> TabularPolicy:
        """The prompts' mean targets, the minimum of the squared loss, as first logits of a table; the others are 0.

        Neither clip nor rate matters.
        """
        weight = torch.from_numpy(rows.weight).double()
        prompts = torch.from_numpy(rows.prompts.astype(np.int64))
        total = torch.zeros(self.game.prompts).double()
        sums = total.index_add(0, prompts, weight * target.double().mean(dim=(1, 2)))
        mean = sums / total.index_add(0, prompts, weight).clamp(min=1e-300)
        first = torch.zeros(self.game.actions).double().index_fill(0, torch.tensor(0), 1.0)
        return TabularPolicy(mean[:, None] * first)

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        return float(loss(objective, state.policies[of].log_probs(), anchors, comparisons(rows)))

    def fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
    ) -> TabularPolicy:
        if self.solve:
            return self.solve(self.game, state)
        if objective.reads.surrogate:
            raise ValueError(
                f"{type(objective).__name__} is a surrogate: only its gradient is meaningful, not its minimum; "
                "use the update Descend"
            )
        if objective.reads.response_weights:
            raise ValueError(
                f"{type(objective).__name__} weighs responses by the current policy: a fixed point, not a minimum; "
                "play dpo on exact games"
            )
        begin = state.policies[start].log_probs()
        return TabularPolicy(minimise(objective, *comparisons(rows), start=begin, anchors=anchors))

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
    ) -> TabularPolicy:
        if self.solve:
            return self.solve(self.game, state)
        begin = state.policies[start].log_probs()
        step = gradient(objective, comparisons(rows), start=begin, anchors=anchors)
        return TabularPolicy((begin - speed * rate * self.game.actions * step).log_softmax(dim=1))

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> TabularPolicy:
        parts = [weight * state.policies[policy].log_probs() for policy, weight in weights.items()]
        return TabularPolicy(torch.stack(parts).sum(dim=0).log_softmax(dim=1))

    def perturb(
        self,
        state: State,
        start: str,
        *,
        scale: float | Floats,
        direction: str,
        block: int = 0,
        name: str,
    ) -> TabularPolicy:
        """Every prompt is a separate game with its own direction in the space of its A logits."""
        draw = Seeds(self.seed).generator("nudge", state.round, direction)
        unit = np.stack([unit_direction(draw, self.game.actions, block) for _ in range(self.game.prompts)])
        step = np.broadcast_to(scale, self.game.prompts)[:, None] * unit
        return TabularPolicy(state.policies[start].logits + torch.from_numpy(step))

    def dimension(self) -> int:
        return self.game.actions

    def average(self, rows: Rows, values: Floats) -> Floats:
        sums = [np.bincount(rows.prompts, w, self.game.prompts) for w in (rows.weight * values, rows.weight)]
        return sums[0] / sums[1]

    def texts(self, rows: Rows) -> list[list[str]]:
        return [
            [self.game.names[x][a] for a in group]
            for x, group in zip(rows.prompts.tolist(), rows.responses.tolist(), strict=True)
        ]

    def features(self, state: State, rows: Rows) -> Tensor:
        every = torch.eye(self.game.prompts * self.game.actions, dtype=torch.float64)
        return every[torch.from_numpy(rows.prompts[:, None] * self.game.actions + rows.responses)]

    def cached(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        if name not in self.made:
            self.made[name] = make(Seeds(self.seed)("kept", name))
        return self.made[name]

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        made = make()
        if name == "judging" and self.remember:
            self.judged[state.round] = made
            self.judged.pop(state.round - self.remember - 1, None)
        return made

    def settle(self, state: State) -> State:
        return state
