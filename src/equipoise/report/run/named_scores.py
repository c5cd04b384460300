"""Named scores of an oracle, drawn: by round against their thresholds, and by the direction that a prompt tells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from equipoise.report.run.load import Estimate, Run
from equipoise.report.run.metrics import plain
from equipoise.report.style import CYCLE, FAINT, direct_labels, panels

MOST = len(CYCLE)  # scores that one figure can tell apart


def thresholds(run: Run) -> dict[str, float]:
    """Score -> its threshold in the run's configuration, where it has one."""
    objective = run.config.get("objective")
    given: Any = objective.get("thresholds") if isinstance(objective, Mapping) else None
    given = given if isinstance(given, Mapping) else {}
    return {str(name): float(v) for name, v in given.items() if isinstance(v, int | float)}


def names(run: Run) -> list[str]:
    """The scores that were measured, in the oracle's order."""
    return list(dict.fromkeys(name for one in run.rounds for name in one.scores))[:MOST]


def by_round(run: Run) -> Figure | None:
    """Mean of each named score on held-out prompts against the round; its threshold, if it has one, dashed."""
    if not names(run):
        return None
    figure, (axes,) = panels()
    limits, ends = thresholds(run), []
    for name, colour in zip(names(run), CYCLE, strict=False):
        points = [(one.round, e) for one in run.rounds if (e := known(one.scores.get(name)))]
        if not points:
            continue
        x, y = [r for r, _ in points], [value_of(e) for _, e in points]
        if all(e.low is not None and e.high is not None for _, e in points):
            low, high = [e.low or 0.0 for _, e in points], [e.high or 0.0 for _, e in points]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, y, color=colour, marker="o")
        ends.append((float(x[-1]), y[-1], f"{name} {plain(y[-1])}", colour))
        if name in limits:
            axes.axhline(limits[name], color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.set_xlabel("round (0 = reference)")
    axes.set_ylabel("mean score")
    _named(axes, ends)
    return figure


def by_direction(run: Run) -> Figure | None:
    """Mean of the first two scores against the angle told: after the last round, and the reference's."""
    told = run.final.told if run.final else ()
    both = list(told[0].direction)[:2] if told else []
    if len(both) < 2:
        return None
    figure, (axes,) = panels(height=2.5)
    before = run.reference.told if run.reference else ()
    ends = []
    for name, colour in zip(both, CYCLE, strict=False):
        for lines, style in ((before, (0, (1, 2))), (told, "-")):
            points = [(angle(t.direction, both), e) for t in lines if (e := known(t.scores.get(name)))]
            if not points:
                continue
            x, y = [a for a, _ in points], [value_of(e) for _, e in points]
            axes.plot(x, y, color=colour, marker="o", linestyle=style)
            if style == "-":
                ends.append((x[-1], y[-1], f"{name} {plain(y[-1])}", colour))
    axes.set_xlabel(f"told angle in degrees: 0 is {both[0]} alone, 90 {both[1]}", color=FAINT)
    axes.set_ylabel("mean score")
    _named(axes, ends)
    return figure


def _named(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name the lines at their ends, once the limits of the axes are final."""
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    direct_labels(axes, ends)


def said_by_round(run: Run) -> str:
    """Alternative text: the first and last mean of each score, and its threshold."""
    limits, texts = thresholds(run), []
    for name in names(run):
        means = [e for one in run.rounds if (e := known(one.scores.get(name)))]
        if means:
            limit = f", threshold {plain(limits[name])}" if name in limits else ""
            texts.append(f"{name}: {plain(value_of(means[0]))} to {plain(value_of(means[-1]))}{limit}")
    return "Mean named scores from the first to the last round: " + "; ".join(texts)


def said_by_direction(run: Run) -> str:
    """Alternative text: the scores at each told direction after the last round."""
    lines = []
    for one in run.final.told if run.final else ():
        scores = ", ".join(f"{n} {plain(value_of(e))}" for n, s in one.scores.items() if (e := known(s)))
        lines.append(f"told {', '.join(f'{n} {plain(v)}' for n, v in one.direction.items())}: {scores}")
    return "; ".join(lines)


def known(estimate: Estimate | None) -> Estimate | None:
    return estimate if estimate is not None and estimate.value is not None else None


def value_of(estimate: Estimate) -> float:
    return math.nan if estimate.value is None else estimate.value


def angle(direction: Mapping[str, float], both: list[str]) -> float:
    """Degrees of a direction from the first of two scores."""
    return math.degrees(math.atan2(direction.get(both[1], 0.0), direction.get(both[0], 0.0)))
