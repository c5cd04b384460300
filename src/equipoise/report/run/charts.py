"""Every chart of a run, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable

from equipoise.report.charts.chart import Chart
from equipoise.report.run.named_scores import directions, scores
from equipoise.report.run.outcome_charts import length_and_win, margins, outcomes
from equipoise.report.run.records import Run
from equipoise.report.run.round_charts import entropy, exploitability, kl, length, win_rate
from equipoise.report.run.step_charts import accuracy, grad_norm, learning_rate, log_ratios, loss, margin

BUILDERS: tuple[Callable[[Run], Chart | None], ...] = (
    win_rate,
    outcomes,
    exploitability,
    scores,
    directions,
    accuracy,
    margin,
    margins,
    log_ratios,
    kl,
    length,
    length_and_win,
    entropy,
    loss,
    grad_norm,
    learning_rate,
)


def charts_of(run: Run) -> list[Chart]:
    """Every chart for which the run holds data."""
    return [chart for build in BUILDERS if (chart := build(run)) is not None]
