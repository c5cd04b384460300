"""Random games, and rounds of self-play that see labelled pairs and nothing else of a game."""

from __future__ import annotations

import numpy as np
import torch

from equipoise.claims.draws import moved_seed
from equipoise.claims.small_models import choose
from equipoise.core.dims import Strategy
from equipoise.games import PreferenceGame, zoo
from equipoise.games.expectation import Comparisons


def random_games(count: int, size: int, first: int = 0) -> PreferenceGame:
    """Random games with random references as the prompts of one game; `first` is the seed of the first."""
    games = [zoo.random(size, moved_seed(first + k)) for k in range(count)]
    return zoo.batch(games, [f"game {k}" for k in range(count)])


def labelled_pairs(
    game: PreferenceGame, first: Strategy, second: Strategy, count: int, rng: np.random.Generator
) -> Comparisons:
    """`count` pairs for every prompt, y ~ first, y' ~ second [X, A], each compared once: the winner is column 0.

    A label is one draw from P(y > y'); the probability itself is not shown.
    """
    y, z = (torch.from_numpy(choose(probs, rng.random((len(probs), count)))) for probs in (first, second))
    prompts = torch.arange(game.prompts)[:, None].expand(-1, count)
    won = torch.from_numpy(rng.random((game.prompts, count))) < game.preference[prompts, y, z]
    responses = torch.where(won[..., None], torch.stack([y, z], 2), torch.stack([z, y], 2))
    weight = torch.ones(game.prompts * count, dtype=torch.float64)
    return Comparisons(prompts.flatten(), responses.flatten(0, 1), weight)
