"""Pictures of exact games: gap against round for several methods, and paths through the simplex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from equipoise.policy.files import whole
from equipoise.report.style import CYCLE, FAINT, INK, direct_labels, label, panels, render, styled

FLOOR = 1e-16  # gaps below are rounding; a gap of 0 is drawn here
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def write_game_figure(result: Mapping[str, Any], path: Path) -> None:
    """Draw the object that `equipoise play --json` prints to a PNG, written whole or not at all.

    Gaps against the round on a log axis: solid the plain gap, dashed the regularised one. If methods carry a
    "trajectory" (the strategies [3] of prompt 0, one per round) and the game has three responses, the simplex
    with each path beside it: hollow the start, filled the end, a cross the "nash" of the result, if given.
    Names are untrusted: they are shortened and never read as mathematics.
    """
    with styled():
        image = render(game_figure(result))
    with whole(Path(path)) as draft:
        draft.write_bytes(image)


def game_figure(result: Mapping[str, Any]) -> Figure:
    methods = result["methods"]
    coloured = [(name, methods[name], CYCLE[i % len(CYCLE)]) for i, name in enumerate(methods)]
    paths = [(trace["trajectory"], colour) for _, trace, colour in coloured if trace.get("trajectory")]
    beside = bool(paths) and len(result["names"]) == len(CORNERS)
    figure, axes = panels(2 if beside else 1, height=3.2)
    figure.set_size_inches(8.2 if beside else 5.4, 3.2)
    draw_gaps(axes[0], coloured, result.get("tau"))
    axes[0].set_title(label(str(result["game"]), 40), loc="left", fontsize=10)
    if beside:
        draw_simplex(axes[1], paths, result["names"], result.get("nash"))
    return figure


def draw_gaps(axes: Axes, coloured: Sequence[tuple[str, Mapping[str, Any], str]], tau: float | None) -> None:
    """Every method's gaps; its name stands at the end of the regularised one if there is one."""
    ends: dict[str, tuple[float, float, str, str]] = {}
    for name, trace, colour in coloured:
        for key, style, width in (("gap0", "-", 1.8), ("gap_tau", (0, (3, 1.5)), 1.4)):
            points = [
                (r, max(g, FLOOR)) for r, g in zip(trace["round"], trace[key], strict=True) if g is not None
            ]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, color=colour, linestyle=style, linewidth=width)
                ends[name] = (x[-1], y[-1], label(name, 16), colour)
    values = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata())]
    low, high = min(values, default=FLOOR) / 1.5, max(values, default=1.0) * 1.5
    axes.set_yscale("log")
    headroom = (high / low) ** (0.04 * len(ends))  # names need room at the top
    axes.set_ylim(low, min(high * headroom, 9))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("round")
    axes.set_ylabel(f"gap: plain —, tau = {tau:g} - -" if tau else "gap (0 = nobody beats it)")
    direct_labels(axes, list(ends.values()))


def draw_simplex(
    axes: Axes, paths: Sequence[tuple[Any, str]], names: Sequence[str], nash: Any | None
) -> None:
    border = np.vstack([CORNERS, CORNERS[:1]])
    axes.plot(border[:, 0], border[:, 1], color=FAINT, linewidth=0.8)
    for corner, name, below in zip(CORNERS, names, (True, True, False), strict=True):
        axes.annotate(
            label(name, 14),
            tuple(corner),
            (0, -4 if below else 4),
            textcoords="offset points",
            ha="center",
            va="top" if below else "bottom",
            fontsize=9,
        )
    for strategies, colour in paths:
        points = in_plane(strategies)
        axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=0.9, alpha=0.8)
        axes.plot(*points[0], "o", color=colour, markerfacecolor="white", zorder=4)
        axes.plot(*points[-1], "o", color=colour, zorder=4)
    if nash is not None:
        axes.plot(
            *in_plane(np.atleast_2d(nash)[0]), "x", color=INK, markersize=7, markeredgewidth=1.6, zorder=5
        )
    axes.set_title(
        "start ○   end ●" + ("   Nash ×" if nash is not None else ""), loc="left", fontsize=9, pad=16
    )
    axes.set_aspect("equal")
    axes.set_axis_off()


def in_plane(strategies: Any) -> npt.NDArray[np.float64]:
    """Barycentric to plane coordinates, [..., 3] -> [..., 2]."""
    return np.asarray(strategies, dtype=np.float64) @ CORNERS
