"""Strategies of preference elicitation compared: regret after each query, with intervals over MDPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from equipoise.core.intervals import clustered_mean
from equipoise.games.elicitation import STRATEGIES, star_course
from equipoise.policy.files import whole
from equipoise.report.charts.chart import Chart, Line
from equipoise.report.charts.printed import picture
from equipoise.report.numbers import plain
from equipoise.report.sheet import Sheet, print_sheet


def compared(
    arms: int, queries: int, seeds: Sequence[int], *, transition_penalty: float, reward_penalty: float
) -> dict[str, Any]:
    """Mean regret of every strategy after each query, with 95 % intervals over MDPs, as plain data."""
    found: dict[str, Any] = {}
    for strategy in STRATEGIES:
        courses = [
            star_course(
                seed,
                strategy,
                arms=arms,
                queries=queries,
                transition_penalty=transition_penalty,
                reward_penalty=reward_penalty,
            )
            for seed in seeds
        ]
        values = 1 - np.array(courses)
        found[strategy] = [dict(clustered_mean(column, np.arange(len(column)))) for column in values.T]
    return {"arms": arms, "queries": queries, "mdps": len(seeds), "regret": found}


def print_queries(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the regret after some of the queries."""
    places = sorted({0, *(round(found["queries"] * part) for part in (0.25, 0.5, 0.75, 1.0))})

    def said(value: Mapping[str, float]) -> str:
        return f"{plain(value['value'])} ({plain(value['low'])} to {plain(value['high'])})"

    print_sheet(
        Sheet(
            f"Regret of the delivered policy after queries, {found['mdps']} star MDPs of {found['arms']} arms",
            ("strategy", *(f"{place} queries" for place in places)),
            [[name, *(said(course[place]) for place in places)] for name, course in found["regret"].items()],
            note="0 is the best policy, 1 a uniform one; 95 % intervals over MDPs. simulated: Sim-OPRL; "
            "uncertainty and uniform: recorded outcomes (OPRL).",
        ),
        console or Console(),
    )


def plot_queries(found: Mapping[str, Any], path: Path) -> None:
    """Draw queries against regret."""
    chart = Chart(
        name="regret",
        title="Regret over queries",
        caption="",
        alt="Regret of the delivered policy after each query",
        x_label="queries",
        y_label="regret",
        from_zero=True,
        lines=[
            Line(
                name=name,
                x=list(range(len(course))),
                y=[one["value"] for one in course],
                low=[one["low"] for one in course],
                high=[one["high"] for one in course],
                colour=number,
                marked=False,
            )
            for number, (name, course) in enumerate(found["regret"].items())
        ],
    )
    with whole(path) as draft:
        draft.write_bytes(picture([chart]))
