"""Named scores in a run's report: what is drawn, and what the alternative texts say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.report.run.load import load_run
from equipoise.report.run.named_scores import (
    by_direction,
    by_round,
    said_by_direction,
    said_by_round,
    thresholds,
)
from equipoise.report.run.page import write_report


def score(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 8}


def told(first: float, second: float, **scores: float) -> dict[str, Any]:
    return {
        "direction": {"helpful": first, "brief": second},
        "scores": {k: score(v) for k, v in scores.items()},
    }


@pytest.fixture
def scored(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """A run folder whose oracle has two scores; the second is unknown in round 0."""

    def make(**objective: Any) -> Path:
        lines = [
            {"round": 0, "scores": {"helpful": score(1.0), "brief": score(None)}},
            {
                "round": 1,
                "scores": {"helpful": score(2.0), "brief": score(0.5)},
                "told": [told(1.0, 0.0, helpful=2.5, brief=0.25), told(0.0, 1.0, helpful=1.5, brief=0.75)],
            },
        ]
        config = {"method": "dpa", "objective": objective}
        return make_run(1, evaluation=lines, config=config)

    return make


def test_scores_and_directions_are_drawn_and_said(scored: Callable[..., Path]) -> None:
    folder = scored(thresholds={"helpful": 1.75})
    run = load_run(folder)
    assert thresholds(run) == {"helpful": 1.75}
    figure = by_round(run)
    assert figure is not None
    (axes,) = figure.axes
    drawn = [list(line.get_ydata()) for line in axes.get_lines()]
    assert drawn == [[1.0, 2.0], [1.75, 1.75], [0.5]]  # a score, its threshold, a score without one
    said = said_by_round(run)
    assert "helpful: 1.00 to 2.00, threshold 1.75; brief: 0.500 to 0.500" in said
    by_angle = by_direction(run)
    assert by_angle is not None
    lines = {tuple(line.get_ydata()): list(line.get_xdata()) for line in by_angle.axes[0].get_lines()}
    assert lines == {(2.5, 1.5): pytest.approx([0, 90]), (0.25, 0.75): pytest.approx([0, 90])}
    assert said_by_direction(run).startswith("told helpful 1.00, brief 0: helpful 2.50, brief 0.250; told")
    write_report(folder)
    assert {"scores.png", "directions.png"} <= {path.name for path in (folder / "figures").iterdir()}


@pytest.mark.parametrize("given", [None, "2", ["helpful"], {"helpful": "much"}])
def test_thresholds_that_are_none_are_left_out(scored: Callable[..., Path], given: Any) -> None:
    assert thresholds(load_run(scored(thresholds=given))) == {}


def test_a_run_without_named_scores_draws_neither(make_run: Callable[..., Path]) -> None:
    run = load_run(make_run(2))
    assert by_round(run) is None
    assert by_direction(run) is None
