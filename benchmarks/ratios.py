"""The picture of what train.py and generate.py found: times of other programs over ours, case by case.

python benchmarks/ratios.py    draw results/ratios.png from results/train.json and results/generate.json
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from common import HERE
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from train import DEFAULT, OURS, ROWS, TUNED, ratios

from equipoise.report.style import BLUE, FAINT, GREEN, ORANGE, PURPLE, panels, render, styled

RESULTS = HERE / "results"
COLOURS = {TUNED: BLUE, DEFAULT: ORANGE, ROWS: GREEN}
Dot = tuple[float, float, float]  # low, middle, high


def of_training() -> list[tuple[str, dict[str, Dot]]]:
    """Quartiles over steps."""
    found = json.loads((RESULTS / "train.json").read_text())["cases"]
    return [(name_of(c["case"]), {p: tuple(ratios(c, p)) for p in c["programs"] if p != OURS}) for c in found]


def name_of(case: dict[str, Any]) -> str:
    return f"{case['size']} {case['precision']}{' LoRA' if case['lora'] else ''}, {case['data']}"


def of_sampling() -> list[tuple[str, dict[str, Dot]]]:
    """Least, median and largest over repeats."""
    found = json.loads((RESULTS / "generate.json").read_text())["cases"]
    return [
        (
            f"{c['model']} {c['precision']}, {c['lengths']}, {c['samples']} x {c['tokens']}",
            {"generate": tuple(c["ratio"][part] for part in ("low", "median", "high"))},
        )
        for c in found
    ]


def lines(panel: Axes, cases: list[tuple[str, dict[str, Dot]]], title: str) -> None:
    """A line of dots for each case, the first one on top; each dot with its spread."""
    panel.axvline(1, color=FAINT, linewidth=0.8)
    for place, (_, dots) in enumerate(cases):
        for number, (program, (low, middle, high)) in enumerate(dots.items()):
            y, colour = place + 0.18 * (number - (len(dots) - 1) / 2), COLOURS.get(program, PURPLE)
            panel.hlines(y, low, high, color=colour, linewidth=1.2)
            panel.plot(middle, y, "o", color=colour, markersize=4)
            panel.annotate(
                f"{middle:.1f}", (high, y), (4, 0), textcoords="offset points", va="center", fontsize=7
            )
    panel.set(yticks=range(len(cases)), yticklabels=[name for name, _ in cases], xscale="log")
    panel.set_ylim(len(cases) - 0.5, -0.5)
    ends = [x for _, dots in cases for dot in dots.values() for x in dot]
    low, high = min(1.0, *ends) / 1.1, max(2.0, *ends) * 1.4
    panel.set_xlim(low, high)
    panel.set_xticks([tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= high])
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(axis="x")
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", labelsize=8)
    panel.set_title(title, loc="left", fontsize=9.5)


def draw() -> bytes:
    training, sampling = of_training(), of_sampling()
    rows = np.array([len(training), len(sampling)])
    with styled():
        figure, (first, second) = panels(2)
        figure.set_size_inches(9.2, 1.1 + 0.5 * rows.max())
        lines(first, training, "A training step: time over ours")
        lines(second, sampling, "Sampling: time of generate over ours")
        for number, (program, colour) in enumerate(COLOURS.items()):
            if any(program in dots for _, dots in training):
                at = (0.01 + 0.16 * number, 0.0)
                figure.text(*at, program, color=colour, fontsize=8, va="bottom")
        figure.get_layout_engine().set(rect=(0, 0.08, 1, 0.92))
        return render(figure)


if __name__ == "__main__":
    (RESULTS / "ratios.png").write_bytes(draw())
