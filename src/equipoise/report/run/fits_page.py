"""The report of a run of several fits on labelled examples: one self-contained page from the files of its folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.core.intervals import POSITIVE, UNBOUNDED, Interval, clustered_mean
from equipoise.report.charts.chart import Chart, Line
from equipoise.report.charts.interactive import page_scripts
from equipoise.report.estimates import number
from equipoise.report.page import cut, render_page, write_page
from equipoise.report.run.load import load_run
from equipoise.report.sheet import Sheet

LONGEST = 60_000
LEFT_OUT = "is missing; what it holds is left out of this report."
SHARES = (
    *("accuracy", "ece", "robust", "probe", "preferred", "teacher", "conflict"),
    *("weighted", "sampled", "sequential", "first_task", "second_task"),
)
STEPS = {"first_task": "quarters of the preference", "second_task": "quarters of the preference"}


def intervals(figures: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """Mean over fits of each figure that all of them have, with its 95 % t-interval; no interval for one fit."""
    names = [name for name in figures[0] if all(name in one for one in figures)]
    return {name: _mean(name, [one[name] for one in figures]) for name in names}


def _mean(name: str, values: Sequence[float]) -> Interval:
    bounds = (0.0, 1.0) if name in SHARES else POSITIVE if name == "nll" else UNBOUNDED
    return clustered_mean(values, list(range(len(values))), bounds=bounds)


def write_fits_report(folder: str | Path) -> Path:
    """Read a run folder, write report.html into it, and return its path."""
    folder = Path(folder)
    run = load_run(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    outcomes = [json.loads(p.read_bytes()) for p in sorted(folder.glob("rounds/*/outcome.json"))]
    charts = list(_charts([one["curves"] for one in outcomes]))
    main = str(summary["main"])
    html = render_page(
        "world.html.jinja",
        charts=charts,
        **page_scripts(charts),
        title=f"{folder.name} – Equipoise report",
        heading=cut(str(summary["title"]), 200),
        verdict=f"{_words(main).capitalize()} {number(summary['figures'][main])} over {len(outcomes)} fits; a run "
        "of one method compares nothing: run another one with the same seeds beside it.",
        facts=[
            *(
                (name, cut(str(summary[name]), 200))
                for name in ("method", "world", "paper", "confidence", "seed")
            ),
        ],
        notes=[note for note in run.notes if not note.endswith(LEFT_OUT)],  # logs of worlds that play rounds
        measures=_sheet(outcomes, summary["figures"]),
        caption="Figures of the held-out examples",
        brackets="Parentheses hold 95 % t-intervals of the mean over fits, each with its own split, start and order.",
        pictures=[],
        again=shlex.join(
            [
                *("equipoise", "align", "--config", f"{folder.name}/config.yaml"),
                *("--world", str(summary["world"]), "--out", f"{folder.name}-again"),
            ]
        ),
        config_text=cut(run.config_text, LONGEST),
        environment=cut(json.dumps(run.processes, indent=2, ensure_ascii=False, default=str), LONGEST),
    )
    return write_page(folder / "report.html", html)


def _sheet(outcomes: Sequence[Mapping[str, Any]], figures: Mapping[str, Interval]) -> Sheet:
    rows = [
        [f"fit {k}", *(number(one["figures"].get(name)) for name in figures)]
        for k, one in enumerate(outcomes, start=1)
    ]
    mean = ["mean", *(number(value) for value in figures.values())]
    return Sheet("Figures", ["", *map(_words, figures)], [mean, *rows])


def _charts(curves: Sequence[Mapping[str, Sequence[float]]]) -> list[Chart]:
    found = []
    for name in curves[0] if curves else ():
        points = list(zip(*(one[name] for one in curves), strict=True))
        if len(points) < 2:
            continue
        means = [_mean(name, list(values)) for values in points]
        unit = STEPS.get(name, "epochs")
        found.append(
            Chart(
                name=f"curve-{name}",
                title=f"{_words(name).capitalize()} of held-out examples",
                caption="Mean over the fits, with the 95 % interval of the mean.",
                alt=f"{_words(name)} from {number(means[0])} to {number(means[-1])}",
                x_label=unit,
                y_label=_words(name),
                lines=[
                    Line(
                        name=_words(name),
                        x=[float(k) for k in range(1, len(means) + 1)]
                        if unit == "epochs"
                        else [float(k) for k in range(len(means))],
                        y=[m["value"] for m in means],
                        low=[m["low"] for m in means],
                        high=[m["high"] for m in means],
                    )
                ],
            )
        )
    return found


def _words(name: str) -> str:
    return {"ece": "expected calibration error", "nll": "log-loss"}.get(name, name.replace("_", " "))
