"""Self-play on a finite game: play a method and trace its exploitability gaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.games import gaps
from equipoise.games.offline import PairData
from equipoise.games.preference import PreferenceGame
from equipoise.games.solve import nash, regularised_nash
from equipoise.games.tabular import TabularPolicy
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.round import play
from equipoise.play.state import START, State
from equipoise.worlds.table.world import TableWorld


def equilibrium(game: PreferenceGame, tau: float | None) -> TabularPolicy:
    """The Nash policy of the tau-regularised game, or of the unregularised one."""
    return regularised_nash(game, tau) if tau else nash(game)


def by_enumeration(
    game: PreferenceGame, method: Method, *, data: PairData | None = None, seed: int = 0
) -> tuple[Method, TableWorld]:
    """The method and a world with fits that minimise its objective. Raises ValueError if a table cannot play it."""
    method.check_world(TableWorld)
    return method, TableWorld(game=game, data=data, seed=seed, remember=method.reach)


def by_closed_form(
    game: PreferenceGame, method: Method, *, data: PairData | None = None, seed: int = 0
) -> tuple[Method, TableWorld]:
    """The method and a world with fits in closed form. Nothing is enumerated, so nothing is paired either.

    Raises ValueError for a method without a closed form.
    """
    formula = method.closed_form
    if formula is None:
        raise ValueError(f"{method.name} has no closed-form step; run it with --gradient")

    def solve(game: PreferenceGame, state: State) -> TabularPolicy:
        return formula(game, state, method.at_round(state.round))

    world = TableWorld(game=game, data=data, seed=seed, solve=solve)
    return replace(method, pairing=AsRecorded()), world


def play_game(
    game: PreferenceGame,
    method: Method,
    *,
    rounds: int,
    exact: bool | None = None,
    tau: float | None = None,
    data: PairData | None = None,
    target: TabularPolicy | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Play `rounds` rounds of a method on a finite game; returns its trace as plain lists.

    exact     True: the method's closed form instead of its fits (ValueError if it has none); False: fit the core
              objective; None: the closed form if there is one.
    tau       KL weight of the regularised gap that is reported; None: gap_tau is null.
    target    the equilibrium, if already known.

    Keys: round, gap0, gap_tau, kl_to_nash (KL from the Nash policy, regularised if tau is given, to the
    iterate; null where infinite), policy, average_policy (arithmetic mean of all iterates, [X][A]), and
    by_prompt: the last round's gaps and distances per prompt, that is, per game of a batch. At most about
    1,000 evenly spaced rounds are listed. Games of three responses add trajectory: the listed strategies of the first
    prompt.
    """
    if exact and method.closed_form is None:
        raise ValueError(f"{method.name} has no closed-form step; run it with --gradient")
    method = method.on_exact_games(rounds)
    closed = exact is not False and method.closed_form is not None
    method, world = (by_closed_form if closed else by_enumeration)(game, method, data=data, seed=seed)
    reached = target or equilibrium(game, tau)
    listed = set(np.unique(np.linspace(0, rounds, min(rounds, 1000) + 1).round().astype(int)).tolist())
    trace: dict[str, list[Any]] = {"round": [], "gap0": [], "gap_tau": [], "kl_to_nash": []}
    total = torch.zeros_like(game.reference)

    def distances(policy: TabularPolicy) -> dict[str, Tensor | None]:
        return {
            "gap0": gaps.gap0(game, policy),
            "gap_tau": gaps.gap_tau(game, policy, tau) if tau else None,
            "kl_to_nash": gaps.kl_to(policy, reached),
        }

    def note(state: State) -> None:
        policy = state.policies[START]
        total.add_(policy.probs())
        done = state.round - 1
        if done in listed:
            trace["round"].append(done)
            for name, values in distances(policy).items():
                mean = None if values is None else game.mean(values)
                trace[name].append(mean if mean is not None and np.isfinite(mean) else None)
            if game.actions == 3:
                trace.setdefault("trajectory", []).append(policy.probs()[0].tolist())

    begin = State.begin(game.initial(), method.update.memory, keep_past=method.asks_the_past)
    last = play(method, world, begin, note).policies[START]
    return {
        **trace,
        "policy": last.probs().tolist(),
        "average_policy": (total / (rounds + 1)).tolist(),
        "by_prompt": {
            name: None if values is None else [v if np.isfinite(v) else None for v in values.tolist()]
            for name, values in distances(last).items()
        },
    }
