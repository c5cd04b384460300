"""The exact world: a finite game, every response enumerated, the objective minimised to float64 precision.

A "sampled" response becomes a column over all responses, its probability a factor of the row's weight; what a
language model estimates from samples is here a sum. The same rounds, players, pairings and objectives run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.games import gaps
from equipoise.games.expectation import enumerate_data
from equipoise.games.fit import minimise
from equipoise.games.offline import PairData, population
from equipoise.games.preference import PreferenceGame
from equipoise.games.solve import nash, regularised_nash
from equipoise.games.tabular import TabularPolicy, mixture
from equipoise.play.loop import play
from equipoise.play.method import Method
from equipoise.play.rows import Rows
from equipoise.play.world import START, Floats, State


@dataclass(frozen=True)
class TableWorld:
    """A preference game as a world. `data`: recorded pairs; by default the population of pairs drawn i.i.d. from
    the reference policy and labelled by the game."""

    game: PreferenceGame
    data: PairData | None = None

    def prompts(self, state: State) -> Rows:
        return Rows(
            prompts=np.arange(self.game.prompts),
            responses=np.empty((self.game.prompts, 0), dtype=np.int64),
            weight=self.game.prompt_weight.numpy(),
            writers=(),
        )

    def recorded(self, state: State) -> Rows:
        data = self.data or population(self.game, self.game.initial())
        found = enumerate_data(data.counts * self.game.prompt_weight[:, None, None])
        return Rows(
            prompts=found.prompts.numpy(),
            responses=found.responses.numpy(),
            weight=found.weight.numpy(),
            writers=("recorded", "recorded"),
            prob=np.ones(len(found.prompts)),
        )

    def write(self, state: State, rows: Rows, by: str, count: int) -> Rows:
        probs = state.policies[by].probs().numpy()
        for _ in range(count):
            rows = _every_response(rows, probs, by)
        return rows

    def compare(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        every = np.arange(len(rows))
        a, b = rows.responses[every, first], rows.responses[every, second]
        return self.game.preference.numpy()[rows.prompts, a, b]

    def anchors(self, state: State, rows: Rows, names: Mapping[str, str]) -> dict[str, Tensor]:
        """Whole tables [X, A]: in a finite game an anchor's every score is at hand."""
        return {name: state.policies[policy].log_probs() for name, policy in names.items()}

    def fit(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective
    ) -> TabularPolicy:
        log_probs = minimise(
            objective,
            torch.from_numpy(rows.prompts),
            torch.from_numpy(rows.responses),
            torch.from_numpy(rows.weight),
            None if rows.prob is None else torch.from_numpy(rows.prob),
            start=state.policies[START].log_probs(),
            anchors=anchors,
        )
        return TabularPolicy(log_probs)

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        return make()

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        raise ValueError("an exact game enumerates labels; use soft labels, not draws")


def equilibrium(game: PreferenceGame, tau: float | None) -> TabularPolicy:
    """The Nash policy: of the tau-regularised game, or of the plain one."""
    return regularised_nash(game, tau) if tau else nash(game)


def play_game(
    game: PreferenceGame,
    method: Method,
    *,
    rounds: int,
    exact: bool | None = None,
    tau: float | None = None,
    data: PairData | None = None,
) -> dict[str, Any]:
    """Play `rounds` rounds of a method on a finite game; returns what happened, as plain lists.

    exact     True: the method's closed-form step (ValueError if it has none); False: minimise the core objective;
              None: the closed form where there is one.
    tau       KL weight whose regularised gap is reported; None: gap_tau is null.

    Keys: round, gap0, gap_tau, kl_to_nash (KL from the Nash policy, regularised if tau is given, to the
    iterate; null where infinite), policy, average_policy (arithmetic mean of all iterates, [X][A]).
    Every round is listed up to 1,000 rounds, then about 1,000 of them. Games of three responses add trajectory:
    the listed strategies of the first prompt.
    """
    if exact and method.closed_form is None:
        raise ValueError(f"{method.name} has no closed-form step; run it with --gradient")
    world = TableWorld(game, data)
    target = equilibrium(game, tau)
    listed = set(np.unique(np.linspace(0, rounds, min(rounds, 1000) + 1).round().astype(int)).tolist())
    trace: dict[str, list[Any]] = {"round": [], "gap0": [], "gap_tau": [], "kl_to_nash": []}
    iterates: list[TabularPolicy] = []

    def note(state: State) -> None:
        policy = state.policies[START]
        iterates.append(policy)
        done = state.round - 1
        if done in listed:
            trace["round"].append(done)
            trace["gap0"].append(game.mean(gaps.gap0(game, policy)))
            trace["gap_tau"].append(game.mean(gaps.gap_tau(game, policy, tau)) if tau else None)
            distance = game.mean(gaps.kl_to(policy, target))
            trace["kl_to_nash"].append(distance if np.isfinite(distance) else None)
            if game.actions == 3:
                trace.setdefault("trajectory", []).append(policy.probs()[0].tolist())

    state = State.begin(game.initial())
    if exact or (exact is None and method.closed_form):
        assert method.closed_form is not None
        note(state)
        while state.round <= rounds:
            state = state.advance(method.closed_form(game, state.policies[START], method.objective))
            note(state)
    else:
        state = play(method.on_exact_games(rounds), world, state, note)
    return {
        **trace,
        "policy": state.policies[START].probs().tolist(),
        "average_policy": mixture(iterates).probs().tolist(),
    }


def _every_response(rows: Rows, probs: np.ndarray, by: str) -> Rows:
    """Each row once for every response the policy can give, weighted by its probability."""
    share = probs[rows.prompts]  # [N, A]
    which, action = share.nonzero()
    expanded = rows.take(which).append(action[:, None], by)
    return Rows(
        prompts=expanded.prompts,
        responses=expanded.responses,
        weight=expanded.weight * share[which, action],
        writers=expanded.writers,
        prob=expanded.prob,
    )
