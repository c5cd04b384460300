"""Figures of an oracle check: reliability, accuracy and biases beside the labels, weights of properties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equipoise.evaluate.oracle_check.check import LABELS
from equipoise.report.labels import label
from equipoise.report.oracle_check.run import Report
from equipoise.report.style import CYCLE, FAINT, INK, panels, render, styled

Of: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
SHOWN = 14  # properties
LEAST_SHOWN = 0.02  # logits; smaller weights of everyone are not drawn


def draw(report: Report) -> list[tuple[str, bytes]]:
    """(caption, PNG) of each figure that has something to show."""
    oracles = report.figures["oracles"]
    with styled():
        found = [
            (
                "Reliability: how often the labels agree, by the oracle's confidence. On the line it is calibrated; "
                "areas are numbers of comparisons.",
                render(_reliability(oracles)),
            ),
            (
                "Agreement with the labels, and what should not decide: the place of an answer, and its length (the "
                "cross: the labels' own preference). 95 % intervals clustered by prompt.",
                render(_shares(oracles)),
            ),
        ]
        dissected = report.figures["dissection"]
        if dissected:
            found.append(
                (
                    "Weights of properties in logits, posterior means with 95 % credible intervals: right of 0 is "
                    "rewarded.",
                    render(_weights(dissected)),
                )
            )
    return found


def _reliability(oracles: Sequence[Mapping[str, Any]]) -> Figure:
    figure, (axes,) = panels(1, height=3.4)
    axes.plot([0.5, 1], [0.5, 1], color=FAINT, linewidth=1)
    for oracle, colour in zip(oracles, CYCLE, strict=False):
        bins = oracle["calibration"]["bins"]
        x, y = [b["confidence"] for b in bins], [b["agreement"] for b in bins]
        total = sum(b["n"] for b in bins)
        axes.plot(x, y, color=colour, linewidth=1)
        axes.scatter(
            x,
            y,
            s=[12 + 160 * b["n"] / total for b in bins],
            color=colour,
            alpha=0.75,
            label=label(oracle["name"], 28),
        )
    axes.set_xlim(0.49, 1.01)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("confidence max(P, 1 - P)")
    axes.set_ylabel("labels that agree")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    return figure


def _shares(oracles: Sequence[Mapping[str, Any]]) -> Figure:
    lines: tuple[tuple[str, Of, Of | None], ...] = (
        ("accuracy", lambda o: o["accuracy"]["accuracy"], None),
        ("the place decides", lambda o: o["order"]["position"], None),
        (
            "longer answer wins",
            lambda o: o["length"]["longer_wins"],
            lambda o: o["length"]["longer_wins_label"],
        ),
    )
    figure, (axes,) = panels(1, height=1.3 + 0.22 * len(lines) * max(2, len(oracles)))
    axes.axvline(0.5, color=FAINT, linewidth=1)
    for row, (_, of, beside) in enumerate(lines):
        for k, (oracle, colour) in enumerate(zip(oracles, CYCLE, strict=False)):
            y = row + 0.7 * ((k + 0.5) / min(len(oracles), len(CYCLE)) - 0.5)
            _interval(axes, of(oracle), y, colour, label(oracle["name"], 28) if row == 0 else None)
            labels = beside(oracle) if beside else None
            if labels:
                axes.plot(labels["value"], y, "x", color=INK, markersize=5)
    axes.set_yticks(range(len(lines)), [name for name, _, _ in lines])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return figure


def _weights(found: Mapping[str, Any]) -> Figure:
    raters = dict(list(found["raters"].items())[: len(CYCLE) + 1])
    colours = iter(CYCLE)  # an oracle has the colour that it has in the other figures
    colour_of = {name: INK if name == LABELS else next(colours, FAINT) for name in raters}
    size = np.max([np.abs(rater["mean"]) for rater in raters.values()], axis=0)
    largest = [int(f) for f in np.argsort(-size)[:SHOWN]]
    order = [f for f in largest if size[f] > LEAST_SHOWN] or largest[:1]
    figure, (axes,) = panels(1, height=1.2 + 0.16 * len(order) * max(2, len(raters)))
    axes.axvline(0, color=FAINT, linewidth=1)
    for row, f in enumerate(order):
        for k, (name, rater) in enumerate(raters.items()):
            y = row + 0.75 * ((k + 0.5) / len(raters) - 0.5)
            interval = {"value": rater["mean"][f], "low": rater["low"][f], "high": rater["high"][f]}
            _interval(axes, interval, y, colour_of[name], label(name, 28) if row == 0 else None)
    axes.set_yticks(range(len(order)), [label(found["properties"][f], 24) for f in order])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel("logits")
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return figure


def _interval(
    axes: Axes, interval: Mapping[str, Any] | None, y: float, colour: str, name: str | None
) -> None:
    if interval is None:
        return
    low = interval["value"] if interval["low"] is None else interval["low"]
    high = interval["value"] if interval["high"] is None else interval["high"]
    axes.plot([low, high], [y, y], color=colour, linewidth=1.4)
    axes.plot(interval["value"], y, "o", color=colour, markersize=4.5, label=name)
