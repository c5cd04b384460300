"""The report of a run in a world beyond language: one self-contained page from the plain files of its folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.report.charts.chart import Chart, Line
from equipoise.report.charts.interactive import page_scripts
from equipoise.report.numbers import plain
from equipoise.report.page import cut, render_page, write_page
from equipoise.report.run.fits_page import write_fits_report
from equipoise.report.run.load import load_run
from equipoise.report.run.step_charts import accuracy, grad_norm, log_ratios, loss, margin
from equipoise.report.sheet import Sheet
from equipoise.worlds.folder.manifest import complete_lines

LONGEST = 60_000
OF_TEXT = ("timings.jsonl is missing", "samples.jsonl is missing")  # logs of language models' runs
Measures = Mapping[str, Mapping[str, Any]]


def write_world_report(folder: str | Path) -> Path:
    """Read a run folder, write report.html into it, and return its path.

    Raises RunFolderError if the folder cannot be read.
    """
    folder = Path(folder)
    summary = _json(folder / "summary.json")
    if "fits" in summary:
        return write_fits_report(folder)
    run = load_run(folder)
    lines = [line for _, line in complete_lines(folder / "evaluation.jsonl")]
    measured: list[tuple[int, Measures]] = [(line["round"], line["measures"]) for line in lines]
    charts = [*_over_rounds(measured, summary.get("better", {}))]
    charts += [chart for build in (accuracy, margin, log_ratios, loss, grad_norm) if (chart := build(run))]
    html = render_page(
        "world.html.jinja",
        charts=charts,
        **page_scripts(charts),
        title=f"{folder.name} – Equipoise report",
        heading=cut(str(summary.get("title", folder.name)), 200),
        verdict=verdict(measured, summary.get("better", {})),
        facts=_facts(summary),
        notes=[note for note in run.notes if not note.startswith(OF_TEXT)],
        measures=_sheet(measured),
        pictures=_pictures(folder / "pictures"),
        again=shlex.join(
            [
                *("equipoise", "align", "--config", f"{folder.name}/config.yaml"),
                *("--world", str(run.config.get("world", "")), "--out", f"{folder.name}-again"),
            ]
        ),
        config_text=cut(run.config_text, LONGEST),
        environment=cut(json.dumps(run.processes, indent=2, ensure_ascii=False, default=str), LONGEST),
    )
    return write_page(folder / "report.html", html)


def is_of_a_world(folder: Path) -> bool:
    """Whether a folder has a run in a world beyond language."""
    file = folder / "config.yaml"
    return file.is_file() and any(line.startswith("world:") for line in file.read_text("utf-8").splitlines())


def verdict(measured: Sequence[tuple[int, Measures]], better: Mapping[str, bool]) -> str:
    """The first measure at the start and in the end, and whether their intervals are apart."""
    name = next(iter(better), None)
    if name is None or len(measured) < 2:
        return "The run has not been evaluated after a round yet."
    first, last = measured[0][1][name], measured[-1][1][name]
    said = f"The {_words(name)} went from {number(first)} to {number(last)}"
    if None in (first["low"], first["high"], last["low"], last["high"]):
        return f"{said}; one figure has no interval."
    above, below = last["low"] > first["high"], last["high"] < first["low"]
    if not (above or below):
        return f"{said}: the intervals overlap, so that no change is shown."
    return f"{said}: {'better' if above == better[name] else 'worse'} than the start, beyond both intervals."


def _over_rounds(measured: Sequence[tuple[int, Measures]], better: Mapping[str, bool]) -> list[Chart]:
    if len(measured) < 2:
        return []
    found = []
    for name in measured[0][1]:
        points = [(float(round), line[name]) for round, line in measured if name in line]
        direction = "higher is better" if better.get(name, True) else "lower is better"
        found.append(
            Chart(
                name=f"measure-{name}",
                title=_words(name).capitalize(),
                caption=f"After each evaluated round, with 95 % intervals; {direction}. Round 0 is the start.",
                alt=f"{_words(name)} from {number(points[0][1])} to {number(points[-1][1])}",
                x_label="round",
                y_label=_words(name),
                lines=[
                    Line(
                        name=_words(name),
                        x=[x for x, _ in points],
                        y=[one["value"] for _, one in points],
                        low=[one["low"] for _, one in points],
                        high=[one["high"] for _, one in points],
                    )
                ],
            )
        )
    return found


def _sheet(measured: Sequence[tuple[int, Measures]]) -> Sheet:
    names = list(measured[0][1]) if measured else []
    rows = [
        [str(round) if round else "start", *(number(line.get(n)) for n in names)] for round, line in measured
    ]
    return Sheet("Figures", ["round", *map(_words, names)], rows)


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    listed = [
        ("method", summary.get("method")),
        ("world", summary.get("world")),
        ("seed", summary.get("seed")),
    ]
    listed += [("rounds", summary.get("rounds")), *dict(summary.get("about", {})).items()]
    return [(name, cut(str(value), 200)) for name, value in listed if value is not None]


def _pictures(folder: Path) -> list[tuple[str, bytes]]:
    if not (folder / "pictures.json").is_file():
        return []
    return [
        (cut(str(one["caption"]), 300), (folder / Path(str(one["file"])).name).read_bytes())
        for one in json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    ]


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _words(name: str) -> str:
    return name.replace("_", " ")


def number(found: Mapping[str, Any] | None) -> str:
    """A figure with its interval, or without."""
    if found is None:
        return "–"
    ends = (found["low"], found["high"])
    return plain(found["value"]) + (f" ({plain(ends[0])} to {plain(ends[1])})" if None not in ends else "")
