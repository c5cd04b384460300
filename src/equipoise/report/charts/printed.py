"""Charts for print: matplotlib's PNG of one or several, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from equipoise.report.charts.chart import Chart, Line
from equipoise.report.labels import label
from equipoise.report.style import CYCLE, FAINT, direct_labels, panels, render, styled

WIDTH, HEIGHT = 4.6, 3.0  # inches of a panel


def picture(charts: Sequence[Chart]) -> bytes:
    """PNG of charts, next to each other; each line is named at its end, bars in a legend."""
    with styled():
        figure, axes = panels(len(charts), height=HEIGHT)
        figure.set_figwidth(WIDTH * len(charts))
        figure.set_layout_engine("constrained", wspace=0.08)
        for panel, chart in zip(axes, charts, strict=True):
            _panel(panel, chart)
        return render(figure)


def _panel(axes: Axes, chart: Chart) -> None:
    if chart.level:
        axes.axhline(chart.level[0], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    if chart.log:
        axes.set_yscale("log")
    for one in chart.lines:
        colour = CYCLE[one.colour % len(CYCLE)]
        ends = [
            (x, low, high)
            for x, low, high in zip(one.x, one.low or (), one.high or (), strict=False)
            if low is not None and high is not None
        ]
        if ends:
            x, low, high = zip(*ends, strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        if one.faint:
            axes.plot(one.x, one.y, color=colour, linewidth=0.7, alpha=0.35)
        else:
            axes.plot(*_broken(one), color=colour, marker="o" if one.marked else None)
    _bars(axes, chart)
    for place in chart.boundaries:
        axes.axvline(place, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
    if chart.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    if chart.from_zero and not chart.log:
        axes.set_ylim(
            bottom=min(0.0, axes.get_ylim()[0] if any(y < 0 for one in chart.lines for y in one.y) else 0.0)
        )
    if chart.places:
        axes.set_xticks(range(len(chart.places)), [label(place, 18) for place in chart.places])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=chart.whole, nbins=8, min_n_ticks=1))
    axes.set_xlabel(chart.x_label)
    axes.set_title(label(chart.title, 44), loc="left", fontsize=10)
    axes.autoscale_view()  # limits are set lazily, and labels stand by them
    known = [one for one in chart.lines if math.isfinite(one.y[-1]) and not one.faint]
    direct_labels(
        axes, [(one.x[-1], one.y[-1], label(one.name, 18), CYCLE[one.colour % len(CYCLE)]) for one in known]
    )


def _broken(line: Line) -> tuple[list[float], list[float]]:
    """The points of a line, with a gap where a new part begins."""
    x, y = [], []
    for i, (at, value) in enumerate(zip(line.x, line.y, strict=True)):
        if i in line.parts:
            x.append(at)
            y.append(math.nan)
        x.append(at)
        y.append(value)
    return x, y


def _bars(axes: Axes, chart: Chart) -> None:
    for box in chart.boxes:
        width = [b - a for a, b in zip(box.left, box.right, strict=True)]
        height = [b - a for a, b in zip(box.bottom, box.top, strict=True)]
        colour = CYCLE[box.colour % len(CYCLE)]
        axes.bar(
            box.left, height, width, box.bottom, align="edge", color=colour, edgecolor="white", label=box.name
        )
    if len(chart.boxes) > 1:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
