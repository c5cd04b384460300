"""Comparison of runs: their last rounds in one table, with the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.html_text import html_table
from equipoise.report.run import comparable
from equipoise.report.run import compare as report
from equipoise.report.run.compare import HEADINGS, NOTHING, Compared
from equipoise.report.run.load import load_run
from equipoise.run.finished import Run

INPUTS = ("model.path", "data.path")  # compared by their contents, and not by where they lie


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    rows      the reference, then the last round of every run.
    differs   sentences on what was allowed to differ.
    settings  names of settings that differ, with their values in each run.
    """

    folders: tuple[Path, ...]
    allow: tuple[str, ...]
    rows: tuple[Compared, ...]
    differs: tuple[str, ...]
    settings: tuple[tuple[str, tuple[str, ...]], ...]

    def save(self, out: str | Path) -> Path:
        """Write the comparison as one page (.html) or a picture (.png); its path."""
        return report.write_comparison(self.folders, out, self.allow)

    def _repr_html_(self) -> str:
        names = list(HEADINGS.values())
        cells = [(row.name, *row.texts()) for row in self.rows]
        kept = [0, *(k + 1 for k in range(len(names)) if any(row[k + 1] != NOTHING for row in cells))]
        figures = html_table(
            [[row[k] for k in kept] for row in cells], ["", *(names[k - 1] for k in kept[1:])], "Comparison"
        )
        if not self.settings:
            return figures
        runs = [row.name for row in self.rows[-len(self.folders) :]]
        return figures + html_table(
            [(name, *values) for name, values in self.settings], ["", *runs], "Settings that differ"
        )


def compare(*runs: Run | str | Path, allow: Sequence[str] = ()) -> Comparison:
    """Compare the last rounds of runs of one model, data and oracle.

    runs    results of `align` or `load_run`, or run folders.
    allow   what may differ: different_model, different_data, different_evaluation, different_oracle.

    Raises ValueError for no run, and NotComparable, with the differences, for runs that differ in what is not allowed.
    """
    folders = tuple(folder_of(run) for run in runs)
    rows = report.compare(folders, allow)
    records = [load_run(folder) for folder in folders]
    return Comparison(
        folders=folders,
        allow=tuple(allow),
        rows=tuple(rows),
        differs=tuple(comparable.check(records, allow)),
        settings=tuple(row for row in comparable.settings(records) if row[0] not in INPUTS),
    )


def folder_of(run: Run | str | Path) -> Path:
    """The folder of a run."""
    return run.folder if isinstance(run, Run) else Path(run)
