"""Pictures of exact games: gap against round for several methods, and paths through the simplex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from equipoise.policy.files import whole
from equipoise.report.labels import label
from equipoise.report.style import BLUE, CYCLE, FAINT, INK, direct_labels, panels, render, styled

FLOOR = 1e-16  # gaps below are rounding; a gap of 0 is drawn here
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
TOGETHER = 4  # methods that share a panel; with more, each has its own
COLUMNS = 5
OTHERS = "#D4D4D4"
STYLES: Mapping[str, Any] = {
    "gap0": {"linestyle": "-", "linewidth": 1.8},
    "gap_tau": {"linestyle": (0, (3, 1.5)), "linewidth": 1.4},
}


def write_game_figure(result: Mapping[str, Any], path: Path) -> None:
    """Draw the object that `equipoise play --json` prints to a PNG, written whole or not at all.

    Gaps against the round on a log axis: solid the plain gap, dashed the regularised one. A few methods share a panel
    and are named at the ends of their lines; with more, each has its own panel, with the others in grey. If
    methods carry a "trajectory" (the strategies [3] of prompt 0, one per round) and the game has three responses, the
    simplex with each path too: hollow the start, filled the end, a cross the "nash" of the result, if given.
    Names are untrusted: they are shortened and never read as mathematics.
    """
    with styled():
        image = render(game_figure(result))
    with whole(Path(path)) as draft:
        draft.write_bytes(image)


def game_figure(result: Mapping[str, Any]) -> Figure:
    return (_together if len(result["methods"]) <= TOGETHER else _apart)(result)


def _together(result: Mapping[str, Any]) -> Figure:
    traces, tau = result["methods"], result.get("tau")
    beside = _has_paths(result)
    figure, axes = panels(2 if beside else 1, height=3.2)
    figure.set_size_inches(8.2 if beside else 5.4, 3.2)
    ends = []
    for (name, trace), colour in zip(traces.items(), CYCLE, strict=False):
        drawn = [draw_gap(axes[0], trace, key, color=colour, **style) for key, style in STYLES.items()]
        ends += [(*end, label(name, 16), colour) for end in drawn if end][-1:]
    scale_gaps(axes[:1], headroom=0.04 * len(ends))  # names need room at the top
    axes[0].set_xlabel("round")
    axes[0].set_ylabel(f"gap: plain —, tau = {tau:g} - -" if tau else "gap (0 = nobody beats it)")
    axes[0].set_title(_title(result), loc="left", fontsize=10)
    direct_labels(axes[0], ends)
    if beside:
        paths = [
            (t["trajectory"], c) for t, c in zip(traces.values(), CYCLE, strict=False) if "trajectory" in t
        ]
        draw_simplex(axes[1], paths, result["names"], result.get("nash"))
        axes[1].set_title(_path_key(result), loc="left", fontsize=9, pad=16)
    return figure


def _apart(result: Mapping[str, Any]) -> Figure:
    """One panel per method, its path beneath it; the gaps share their axes."""
    traces, tau = result["methods"], result.get("tau")
    heights = (1.35, 1.2) if _has_paths(result) else (1.5,)
    bands = -(-len(traces) // COLUMNS)
    columns = -(-len(traces) // bands)
    figure = Figure(figsize=(1.95 * columns, bands * sum(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(bands * len(heights), columns, height_ratios=heights * bands)
    panels_of_gaps: list[Axes] = []
    for i, (name, trace) in enumerate(traces.items()):
        row, column = len(heights) * (i // columns), i % columns
        share = panels_of_gaps[0] if i else None
        axes = figure.add_subplot(grid[row, column], sharex=share, sharey=share)
        for other in traces.values():
            draw_gap(axes, other, "gap_tau" if tau else "gap0", color=OTHERS, linewidth=0.8)
        for key, style in STYLES.items():
            draw_gap(axes, trace, key, color=BLUE, **style)
        axes.set_title(label(name, 20), loc="left", fontsize=9.5)
        axes.tick_params(labelsize=8, labelleft=column == 0, labelbottom=i + columns >= len(traces))
        panels_of_gaps.append(axes)
        if len(heights) > 1:
            beneath = figure.add_subplot(grid[row + 1, column])
            paths = [(trace["trajectory"], BLUE)] if "trajectory" in trace else []
            draw_simplex(beneath, paths, result["names"] if i == 0 else ("", "", ""), result.get("nash"))
    scale_gaps(panels_of_gaps)
    panels_of_gaps[0].xaxis.set_major_locator(MaxNLocator(3, integer=True))
    kinds = f"gap by round: plain —, tau = {tau:g} - -" if tau else "gap by round (0 = nobody beats it)"
    markers = f"      {_path_key(result)}" if len(heights) > 1 else ""
    heading = f"{_title(result)}{markers}\n{kinds}, grey: the other methods"
    figure.suptitle(heading, x=0.01, ha="left", fontsize=9.5)
    return figure


def _has_paths(result: Mapping[str, Any]) -> bool:
    traces = result["methods"].values()
    return len(result["names"]) == len(CORNERS) and any("trajectory" in trace for trace in traces)


def _title(result: Mapping[str, Any]) -> str:
    prompts = len(result.get("nash") or [None])
    return label(str(result["game"]), 40) + (f", mean of {prompts} prompts" if prompts > 1 else "")


def _path_key(result: Mapping[str, Any]) -> str:
    return "start ○   end ●" + ("   Nash ×" if result.get("nash") is not None else "")


def draw_gap(axes: Axes, trace: Mapping[str, Any], key: str, **style: Any) -> tuple[float, float] | None:
    """One line, without the rounds that have no figure; its end, or None if there is nothing to draw."""
    points = [(r, max(g, FLOOR)) for r, g in zip(trace["round"], trace[key], strict=True) if g is not None]
    if not points:
        return None
    axes.plot(*zip(*points, strict=True), **style)
    return points[-1]


def scale_gaps(panels: Sequence[Axes], headroom: float = 0.0) -> None:
    """A log axis for all lines of panels that share it, `headroom` of its height left free at the top."""
    values = [float(y) for axes in panels for line in axes.lines for y in np.asarray(line.get_ydata())]
    low, high = min(values, default=FLOOR) / 1.5, max(values, default=1.0) * 1.5
    axes = panels[0]
    axes.set_yscale("log")
    axes.set_ylim(low, min(high * (high / low) ** headroom, 9))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


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
    axes.set_aspect("equal")
    axes.set_axis_off()


def in_plane(strategies: Any) -> npt.NDArray[np.float64]:
    """Barycentric to plane coordinates, [..., 3] -> [..., 2]."""
    return np.asarray(strategies, dtype=np.float64) @ CORNERS
