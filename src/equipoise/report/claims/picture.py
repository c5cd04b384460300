"""The panels of a claim's evidence, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from equipoise.claims.claim import Evidence, Panel
from equipoise.report.style import CYCLE, FAINT, direct_labels, panels, render, styled

PANEL_WIDTH = 4.5  # inches
LABEL_WIDTH, LABEL_GAP = 0.4, 0.065  # of a panel: names closer than this would overlap


def picture(evidence: Evidence) -> bytes:
    """The panels side by side as PNG. Needs at least one."""
    with styled():
        figure, all_axes = panels(len(evidence.panels), height=3.4)
        figure.set_size_inches(PANEL_WIDTH * len(evidence.panels), 3.4)
        names = [line.name for panel in evidence.panels for line in panel.lines if not line.guide]
        bases = list(dict.fromkeys(map(base, names)))
        colours = {name: CYCLE[i % len(CYCLE)] for i, name in enumerate(bases)}
        for axes, panel in zip(all_axes, evidence.panels, strict=True):
            draw_panel(axes, panel, colours)
        return render(figure)


def base(name: str) -> str:
    """A line's name without its settings: lines that share it share a colour across panels."""
    return name.split(",")[0]


def draw_panel(axes: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    ends = []
    for line in panel.lines:
        colour = FAINT if line.guide else colours[base(line.name)]
        if line.guide:
            axes.plot(line.x, line.y, color=colour, linewidth=1, linestyle=(0, (4, 3)))
        else:
            axes.plot(line.x, line.y, color=colour, marker="o" if len(line.x) < 30 else None, markersize=3)
        if line.low and line.high:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.13, linewidth=0)
        ends.append((line.x[-1], line.y[-1], line.name, colour))
    if panel.log_x:
        axes.set_xscale("log")
        log_ticks(axes.xaxis, axes.get_xlim())
    if panel.log_y:
        axes.set_yscale("log")
        axes.set_ylim(bottom=panel.bottom)
        log_ticks(axes.yaxis, axes.get_ylim())
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel(panel.xlabel)
    axes.set_ylabel(panel.ylabel)
    axes.autoscale_view()  # limits are lazy; labels are placed by them
    name_lines(axes, ends)


def name_lines(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Label lines at the right edge if they reach it, else where they end; at the edge too if labels would crowd."""
    right = max(x for x, *_ in ends)
    inside = [end for end in ends if end[0] < right]
    places = (axes.transData + axes.transAxes.inverted()).transform([end[:2] for end in ends])
    gaps = [abs(a - b) for a, b in combinations(places, 2)]
    if any(across < LABEL_WIDTH and up < LABEL_GAP for across, up in gaps):
        inside = []
    for x, y, name, colour in inside:
        axes.annotate(name, (x, y), (5, 0), textcoords="offset points", va="center", color=colour, fontsize=9)
    direct_labels(axes, [end for end in ends if end not in inside], gap=LABEL_GAP)


def log_ticks(axis: Axis, limits: tuple[float, float]) -> None:
    few = limits[1] < 300 * limits[0]
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
