"""Evaluation inside fits, drawn: loss, accuracy and margin of held-out rows over steps, the best checkpoint marked."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from equipoise.report.run.load import Run, Within
from equipoise.report.run.metrics import percent, plain
from equipoise.report.run.step_axis import step_axis
from equipoise.report.style import BLUE, FAINT, GREEN, ORANGE, panels

PANELS = (
    ("loss", "loss", BLUE, plain),
    ("accuracy", "accuracy", ORANGE, percent),
    ("margin", "margin (nats)", GREEN, plain),
)


def within_fits(run: Run) -> Figure | None:
    """One panel for each metric that was measured; the best checkpoint is a star in its metric's panel."""
    present = [one for one in PANELS if any(getattr(line, one[0]) is not None for line in run.within)]
    if not present or not run.steps:
        return None
    place = {(step.round, step.step): index + 1 for index, step in enumerate(run.steps)}
    best = run.summary.best
    figure, all_axes = panels(len(present), height=2.5)
    for axes, (name, title, colour, show) in zip(all_axes, present, strict=True):
        for round in dict.fromkeys(line.round for line in run.within):
            points = [
                (place[line.round, line.step], value)
                for line in run.within
                if line.round == round
                and (line.round, line.step) in place
                and (value := getattr(line, name)) is not None
            ]
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3)
        if name == "accuracy":
            axes.axhline(0.5, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        if best is not None and best.metric == name and best.step is not None:
            at = (place.get((best.round, best.step), len(run.steps)), best.value)
            axes.plot(*at, color=colour, marker="*", markersize=15, markeredgecolor="white", zorder=5)
            left = at[0] > 0.6 * len(run.steps)
            offset: dict[str, Any] = {"xytext": (-10 if left else 10, 8), "ha": "right" if left else "left"}
            axes.annotate(
                f"best {show(best.value)}", at, textcoords="offset points", fontsize=9, color=colour, **offset
            )
        axes.margins(y=0.25)
        axes.set_title(title, loc="left", fontsize=10)
        step_axis(axes, run)
    return figure


def said(run: Run) -> str:
    """Alternative text: the first and last value of each metric, and the best checkpoint."""
    texts = []
    for name, title, _, show in PANELS:
        lines: list[Within] = [line for line in run.within if getattr(line, name) is not None]
        if lines:
            first, last = lines[0], lines[-1]
            texts.append(
                f"{title}: {show(getattr(first, name))} at step {first.step} of round {first.round}, "
                f"{show(getattr(last, name))} at step {last.step} of round {last.round}"
            )
    return "; ".join([*texts, *([f"best checkpoint: {chosen(run)}"] if run.summary.best else [])])


def chosen(run: Run) -> str:
    """The best checkpoint in words, with its metric, value and place; "" if none was chosen."""
    best = run.summary.best
    if best is None:
        return ""
    at = f"round {best.round}" + ("" if best.step is None else f", step {best.step}")
    return f"{best.folder}: {best.metric} {plain(best.value)} ({best.better} is better), {at}"
