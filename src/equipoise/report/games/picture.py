"""Heat map of a preference game, with its Nash weights and Bradley-Terry strengths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from equipoise.policy.files import whole
from equipoise.report.labels import label
from equipoise.report.style import BLUE, FAINT, INK, ORANGE, render, styled

WRITTEN = 12  # the most responses whose probabilities are written into the picture


def write_game_picture(report: Mapping[str, Any], path: Path) -> None:
    """Draw the one game of the report to a PNG, written whole or not at all. Names are untrusted."""
    with styled():
        image = render(game_picture(report))
    with whole(Path(path)) as draft:
        draft.write_bytes(image)


def game_picture(report: Mapping[str, Any]) -> Figure:
    """Preference matrix, and next to each row its Nash weight and Bradley-Terry strength; one order for all three.

    Raises ValueError if the report holds several games.
    """
    if len(report["games"]) != 1:
        raise ValueError("the file holds several games: choose one to draw with --part")
    game = report["games"][0]
    size = len(game["names"])
    side = min(max(2.6, 0.34 * size), 7.5)
    figure = Figure(figsize=(side + 5.0, side + 0.9), layout="constrained")
    heat, nash, strength = figure.subplots(1, 3, width_ratios=(side, 1.6, 1.6))
    draw_preference(heat, game)
    draw_nash(nash, game, report["bootstrap"])
    draw_strength(strength, game)
    for axes in (nash, strength):
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_yticks([])
        axes.grid(False)
        axes.spines["left"].set_visible(False)
    return figure


def draw_preference(axes: Axes, game: Mapping[str, Any]) -> None:
    order = game["order"]
    table = np.asarray(game["preference"])[np.ix_(order, order)]
    names = [label(game["names"][i], 22) for i in order]
    colours = LinearSegmentedColormap.from_list("wins", [ORANGE, "white", BLUE])
    axes.imshow(table, cmap=colours, vmin=0, vmax=1, aspect="auto")
    small = 9 if len(order) <= 20 else 6
    axes.set_yticks(range(len(order)), names, fontsize=small)
    axes.set_xticks(range(len(order)), names, fontsize=small, rotation=90)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if len(order) <= WRITTEN:
        for (i, j), p in np.ndenumerate(table):
            if i != j:
                colour = "white" if abs(p - 0.5) > 0.35 else INK
                axes.text(j, i, f"{100 * p:.0f}", ha="center", va="center", fontsize=8, color=colour)
    told = "row beats column, %" if len(order) <= WRITTEN else "row against column: wins blue, loses orange"
    axes.set_title(told, fontsize=10)


def draw_nash(axes: Axes, game: Mapping[str, Any], spread: Mapping[str, Any] | None) -> None:
    order = game["order"]
    weight = np.asarray(game["responses"]["average"])[order]
    rows = np.arange(len(order))
    axes.barh(rows, weight, color=BLUE, height=0.62)
    bounds = spread["average"] if spread else [game["responses"]["low"], game["responses"]["high"]]
    low, high = (np.asarray(side)[order] for side in bounds)
    wide = high - low > 1e-6
    axes.hlines(rows[wide], low[wide], high[wide], color=INK, linewidth=1.2)
    axes.set_xlim(0, 1.05 * max(weight.max(), high.max()))
    axes.set_title("Nash average", fontsize=10)
    told = "line: 95 % of resamples" if spread else "line: all Nash policies"
    axes.set_xlabel("probability" + (f"\n{told}" if wide.any() else ""))


def draw_strength(axes: Axes, game: Mapping[str, Any]) -> None:
    """Strengths in logits; levels that are infinitely far apart stand side by side, a dashed line between."""
    order = game["order"]
    strength = np.asarray(game["responses"]["strength"])[order]
    level = np.asarray(game["responses"]["level"])[order]
    at, right = strength.copy(), -np.inf
    for step in range(level.max() + 1):
        here = level == step
        if step:
            at[here] += right + 2 - strength[here].min()
            axes.axvline(right + 1, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        right = at[here].max()
    rows = np.arange(len(order))
    axes.hlines(rows, min(at.min(), 0), at, color=FAINT, linewidth=0.8)
    axes.plot(at, rows, "o", color=ORANGE)
    if level.max():
        axes.set_xticks([])
    axes.set_title("Bradley-Terry", fontsize=10)
    axes.set_xlabel("strength, logits" + ("\ndashed: ∞ apart" if level.max() else ""))
