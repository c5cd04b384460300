"""Learners on random adversarial linear MDPs: what `equipoise play --game mdp --json` prints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.cli.games.play import one_thread
from equipoise.games.repeated.adversarial_mdp import random_mdp, together
from equipoise.games.repeated.mdp_regret import (
    LEARNERS,
    PLANTED,
    coins,
    regret_from_own_paths,
    regret_of,
    uniform_regret,
)
from equipoise.run.config import ConfigError

SIZES, MOST = "3x3x3x2", 20
FEWEST = 8  # episodes: the least horizon is a quarter of them, and an epoch needs two
KNOWN, OWN_PATHS = "known", "own paths"


def sizes_of(game: str) -> dict[str, int]:
    """The sizes in mdp or mdp:STATESxACTIONSxDIMENSIONxSTEPS."""
    given = game.partition(":")[2]
    numbers = (given or SIZES).split("x")
    if (
        len(numbers) != 4
        or not all(n.isdecimal() and 1 <= int(n) <= MOST for n in numbers)
        or numbers[1] == "1"
    ):
        raise ConfigError(
            f"{game} is no MDP: give mdp:STATESxACTIONSxDIMENSIONxSTEPS, such as mdp:{SIZES}, of whole numbers up to "
            f"{MOST} and two actions or more"
        )
    return dict(zip(("states", "actions", "dimension", "steps"), map(int, numbers), strict=True))


def play_mdp(
    sizes: dict[str, int], adversary: str | None, episodes: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Regret per episode of every learner at K/4, K/2 and K episodes, each in its own tuning, on `repeats` MDPs."""
    if episodes < FEWEST:
        raise ConfigError(f"--rounds are the episodes of an MDP, at least {FEWEST}: got {episodes}")
    against, seeds = adversary or PLANTED, range(seed, seed + repeats)
    horizons = [episodes // 4, episodes // 2, episodes]
    mdp = together([random_mdp(one, **sizes) for one in seeds])
    kinds = [(name, KNOWN) for name in LEARNERS]
    kinds += [(name, OWN_PATHS) for name, learner in LEARNERS.items() if learner.refined]
    found: dict[tuple[str, str], list[Tensor]] = {kind: [] for kind in kinds}
    uniform = []
    with one_thread():
        for horizon in horizons:
            weights = torch.stack(
                [
                    coins(against, horizon, one, steps=sizes["steps"], dimension=sizes["dimension"])
                    for one in seeds
                ]
            )
            uniform.append(float(uniform_regret(mdp, weights).mean()) / horizon)
            for name, transitions in kinds:
                known = transitions == KNOWN
                play = regret_of if known else lambda *x: regret_from_own_paths(*x)[0]
                found[name, transitions].append(play(mdp, weights, LEARNERS[name], seeds) / horizon)
    return {
        "mdp": sizes,
        "adversary": against,
        "repeats": repeats,
        "seed": seed,
        "episodes": horizons,
        "uniform": uniform,
        "learners": [
            {
                "learner": name,
                "transitions": transitions,
                "regret_per_episode": [float(one.mean()) for one in each],
                "standard_error": [float(one.std()) / repeats**0.5 if repeats > 1 else None for one in each],
            }
            for (name, transitions), each in found.items()
        ],
    }
