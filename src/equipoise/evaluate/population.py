"""The game of several writers who all met: battles for ratings, win rates, von Neumann winner, exploitability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.evaluate.arena.bradley_terry import Battles
from equipoise.evaluate.arena.exploitability import cycles, exploitability, nash
from equipoise.evaluate.contest import Contest


def battles_of(contests: Sequence[Contest]) -> Battles:
    """All judged comparisons as battles; what failed is left out."""
    meetings = [c for c in contests if c.candidate != c.against]
    models = tuple(dict.fromkeys(name for c in meetings for name in (c.against, c.candidate)))
    rows = [
        (models.index(c.candidate), models.index(c.against), p, key)
        for c in meetings
        for p, key in zip(c.prob, c.prompts, strict=True)
        if not np.isnan(p)
    ]
    return Battles(
        models,
        np.array([row[0] for row in rows], dtype=np.intp),
        np.array([row[1] for row in rows], dtype=np.intp),
        np.array([row[2] for row in rows], float),
        np.ones(len(rows)),
        [row[3] for row in rows],
    )


def population(names: Sequence[str], contests: Sequence[Contest], *, seed: int = 0) -> dict[str, Any] | None:
    """The game of all participants: mean win rates, von Neumann winner, exploitability of each and of the uniform
    mixture. None without a prompt on which everybody met everybody, or with fewer than 4."""
    shared = set.intersection(*(set(c.prompts) for c in contests))
    order = [key for key in dict.fromkeys(contests[0].prompts) if key in shared]
    number = {key: k for k, key in enumerate(order)}
    count = len(names)
    wins = np.full((len(order), count, count), np.nan)
    wins[:, np.arange(count), np.arange(count)] = 0.5
    for c in contests:
        a, b = names.index(c.candidate), names.index(c.against)
        total, seen = np.zeros(len(order)), np.zeros(len(order))
        for p, key in zip(c.prob, c.prompts, strict=True):
            if key in number:
                total[number[key]] += p
                seen[number[key]] += 1
        wins[:, a, b] = total / seen
        wins[:, b, a] = 1 - wins[:, a, b]
    whole = wins[~np.isnan(wins).any(axis=(1, 2))]
    if len(whole) < 4:
        return None
    mean = whole.mean(axis=0)
    winner, circles = cycles(mean)
    mixtures = {name: np.eye(count)[k] for k, name in enumerate(names)} | {
        "uniform mixture": np.full(count, 1 / count)
    }
    return {
        "models": list(names),
        "win_rates": mean.tolist(),
        "prompts": len(whole),
        "nash": dict(zip(names, nash(mean).tolist(), strict=True)),
        "condorcet_winner": winner,
        "cyclic_triples": circles,
        "exploitability": {
            name: (found := exploitability(whole, mixture, seed=seed)).plain()
            | {"exploiter": names[found.exploiter]}
            for name, mixture in mixtures.items()
        },
    }
