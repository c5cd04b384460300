"""The axis of optimizer steps, over all rounds of a run."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from equipoise.report.run.load import Run
from equipoise.report.style import FAINT


def boundaries(run: Run) -> list[int]:
    """Positions in `run.steps` where a new round begins."""
    return [i for i in range(1, len(run.steps)) if run.steps[i].round != run.steps[i - 1].round]


def step_axis(axes: Axes, run: Run) -> None:
    for boundary in boundaries(run):
        axes.axvline(boundary + 0.5, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.set_xlim(0.5, len(run.steps) + 0.5)
    axes.set_xlabel("optimizer step")
