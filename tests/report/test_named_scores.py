"""Charts of named scores: their lines, thresholds and directions, and their texts for readers who do not see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.report.run.charts import charts_of
from equipoise.report.run.load import load_run
from equipoise.report.run.named_scores import directions, scores, thresholds
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
    chart = scores(run)
    assert chart is not None
    drawn = {line.name: list(line.y) for line in chart.lines}
    assert drawn == {"helpful": [1.0, 2.0], "helpful: threshold": [1.75, 1.75], "brief": [0.5]}
    assert "helpful 1.00 at round 0, 2.00 at round 1; helpful: threshold 1.75" in chart.alt
    by_angle = directions(run)
    assert by_angle is not None
    lines = {line.name: (list(line.x), list(line.y)) for line in by_angle.lines}
    assert lines == {
        "helpful": (pytest.approx([0, 90]), [2.5, 1.5]),
        "brief": (pytest.approx([0, 90]), [0.25, 0.75]),
    }
    assert by_angle.alt.startswith("told helpful 1.00, brief 0.00: helpful 2.5, brief 0.25; told")
    assert {"scores", "directions"} <= {one.name for one in charts_of(run)}
    assert "Named scores of the oracle" in write_report(folder).read_text()


@pytest.mark.parametrize("given", [None, "2", ["helpful"], {"helpful": "much"}])
def test_thresholds_that_are_none_are_left_out(scored: Callable[..., Path], given: Any) -> None:
    assert thresholds(load_run(scored(thresholds=given))) == {}


def test_a_run_without_named_scores_draws_neither(make_run: Callable[..., Path]) -> None:
    run = load_run(make_run(2))
    assert scores(run) is None
    assert directions(run) is None
