"""The two three-response cycles of the claims on convergence, and a method's policies on them, round by round."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from equipoise.games import PreferenceGame, TabularPolicy, zoo
from equipoise.methods.index import get
from equipoise.play.round import play
from equipoise.play.state import START, State
from equipoise.worlds.table.play_game import by_closed_form, by_enumeration

NAMES = ("rps", "brps")
NEVER = 10**9  # rounds
ROUNDING = 1e-16  # what a logarithmic axis shows in place of zero


def cycles() -> PreferenceGame:
    """rps and brps as the two prompts of one game."""
    games = [zoo.make(name) for name in NAMES]
    return PreferenceGame(torch.cat([game.preference for game in games]), zoo.SKEWED, prompt_names=NAMES)


def follow(
    game: PreferenceGame,
    name: str,
    parameters: Mapping[str, Any],
    rounds: int,
    at: Collection[int],
) -> tuple[dict[int, TabularPolicy], TabularPolicy]:
    """Play a method, by its closed form where it has one: (policies after the rounds `at`, mean of all)."""
    method = get(name).with_parameters(parameters).on_exact_games(rounds)
    method, world = (by_closed_form if method.closed_form else by_enumeration)(game, method)
    seen: dict[int, TabularPolicy] = {}
    total = torch.zeros_like(game.reference)

    def note(state: State) -> None:
        policy = state.policies[START]
        total.add_(policy.probs())
        if state.round - 1 in at:
            seen[state.round - 1] = policy

    play(method, world, State.begin(game.initial(), method.update.memory), note)
    return seen, TabularPolicy((total / (rounds + 1)).log())


def spaced(rounds: int, count: int = 80) -> list[int]:
    """Round numbers for a logarithmic axis: 1 .. rounds, always with rounds/2 and rounds."""
    points = np.geomspace(1, rounds, count).round().astype(int).tolist()
    return sorted({*points, rounds // 2, rounds})


def shown(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(value, ROUNDING) for value in values)
