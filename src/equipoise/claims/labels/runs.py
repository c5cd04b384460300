"""Recipes of the labels world run over seeds, each seed with a split of its own that all recipes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from equipoise.claims.claim import Array, Cell, Table, interval
from equipoise.claims.draws import moved_seed
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels.examples import Split
from equipoise.worlds.labels.outcome import Outcome, Recipe

FIRST = 100  # settings were tried on seeds below and above those of the claims


def over_seeds(
    recipes: Mapping[str, Recipe], split: Callable[[Seeds], Split], count: int
) -> dict[str, list[Outcome]]:
    """Outcomes by recipe, one for each of `count` seeds."""
    found: dict[str, list[Outcome]] = {name: [] for name in recipes}
    for seed in range(FIRST, FIRST + count):
        seeds = Seeds(moved_seed(seed))
        parts = split(seeds)
        for name, recipe in recipes.items():
            found[name].append(recipe.run(parts, seeds))
    return found


def figure(outcomes: list[Outcome], name: str) -> Array:
    """[seeds] one figure of all outcomes."""
    return np.array([o.figures[name] for o in outcomes])


def curve(outcomes: list[Outcome], name: str) -> Array:
    """[seeds, points] one curve of all outcomes."""
    return np.array([o.curves[name] for o in outcomes])


def gain(first: Array, second: Array) -> tuple[float, float, float]:
    """Mean paired difference first - second over seeds and its 95 % t-interval: (mean, low, high)."""
    mean, low, high = interval(first - second)
    return float(mean), float(low), float(high)


def told(difference: tuple[float, float, float]) -> str:
    return f"{difference[0]:+.3f} [{difference[1]:+.3f}, {difference[2]:+.3f}]"


def table(title: str, found: Mapping[str, list[Outcome]], names: Mapping[str, str], against: str) -> Table:
    """Means over seeds of figures (name -> heading) by recipe, and differences of the first one from one recipe's."""
    first = next(iter(names))
    rows: list[tuple[Cell, ...]] = []
    for recipe, outcomes in found.items():
        means = [float(figure(outcomes, name).mean()) for name in names]
        rows.append(
            (
                recipe,
                *means,
                ""
                if recipe == against
                else told(gain(figure(outcomes, first), figure(found[against], first))),
            )
        )
    return Table(title, ("trained by", *names.values(), f"{names[first]} over {against}"), tuple(rows))
