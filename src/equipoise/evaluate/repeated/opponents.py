"""Opponents of a repeated game: what they play, and so which losses a player meets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from equipoise.games.preference import PreferenceGame
from equipoise.games.repeated.regret import Plays, alternating
from equipoise.play.seeds import Seeds

# (game, plays so far [S, t, A], seed) -> losses of round t + 1, [S, A] in [0, 1]
Losses: TypeAlias = Callable[[PreferenceGame, Plays, Seeds], Tensor]

SELF_PLAY = "self-play"


def against(game: PreferenceGame, opponent: Tensor) -> Tensor:
    """Losses 1 - P(. > q) of every action against opponents' strategies q, [S, A]."""
    return 1 - opponent @ game.preference[0].T


def _actions(game: PreferenceGame, chosen: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(chosen, game.actions).double()


def _random(game: PreferenceGame, plays: Plays, seeds: Seeds) -> Tensor:
    """An action drawn uniformly in every round."""
    runs, played = plays.shape[:2]
    drawn = seeds.generator("opponent", played).integers(game.actions, size=runs)
    return against(game, _actions(game, torch.from_numpy(drawn)))


def _periodic(game: PreferenceGame, plays: Plays, seeds: Seeds) -> Tensor:
    """Action 1, 2, ..., A, and again."""
    runs, played = plays.shape[:2]
    return against(game, _actions(game, torch.full((runs,), played % game.actions)))


def _best_response(game: PreferenceGame, plays: Plays, seeds: Seeds) -> Tensor:
    """The best answer to the player's average play so far, ties to the first; uniform in the first round."""
    runs, played = plays.shape[:2]
    if not played:
        return against(game, torch.full((runs, game.actions), 1 / game.actions, dtype=torch.float64))
    wins = plays.mean(dim=1) @ game.preference[0].T
    return against(game, _actions(game, wins.argmax(dim=1)))


def _alternating(game: PreferenceGame, plays: Plays, seeds: Seeds) -> Tensor:
    """The losses (1/2, 0), (0, 1), (1, 0), ..., 1 of further actions, whatever the game: the leader always loses."""
    runs, played = plays.shape[:2]
    return alternating(played + 1, game.actions)[0, -1].expand(runs, -1)


OPPONENTS: Mapping[str, Losses] = {
    "random": _random,
    "periodic": _periodic,
    "best-response": _best_response,
    "alternating": _alternating,
}
ADVERSARIES = (*OPPONENTS, SELF_PLAY)
