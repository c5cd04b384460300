"""Comparison of any runs: the figures of one evaluation side by side, and in words what cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.html_text import html_table
from equipoise.report.comparison import compare as report
from equipoise.report.comparison.compare import HEADINGS
from equipoise.report.comparison.page import write_comparison
from equipoise.run.config import ConfigError
from equipoise.run.finished import Run

INPUTS = ("model.path", "data.path")  # compared by their contents, and not by where they lie


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    found   tables of comparable figures (`groups`), sentences on the rest (`said`, `apart`), and `settings` that differ
    """

    folders: tuple[Path, ...]
    found: report.Comparison

    def save(self, out: str | Path) -> Path:
        """Write the comparison as one page (.html) or a picture of its curves (.png); its path."""
        return write_comparison(self.folders, out)

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values, those of `equipoise compare --json`."""
        return self.found.plain()

    def _repr_html_(self) -> str:
        tables = []
        for group in self.found.groups:
            figures = group.filled(page=True)
            rows = [(row.name, *map(row.text, figures)) for row in group.rows]
            tables.append(html_table(rows, ["", *(HEADINGS[name] for name in figures)], "Comparison"))
        sentences = [(sentence,) for sentence in (*self.found.said, *self.found.apart)]
        if sentences:
            tables.append(html_table(sentences, [""], "What it says"))
        rows = [(name, *values) for name, values in self.found.settings if name not in INPUTS]
        if rows:
            tables.append(html_table(rows, ["", *self.found.names], "Settings that differ"))
        return "".join(tables)


def compare(*runs: Run | str | Path) -> Comparison:
    """Compare the last rounds of any runs.

    runs    results of `align` or `load_run`, or run folders; differences are to the first.

    Raises ValueError for no run, RunFolderError for a folder that holds none.
    """
    folders = tuple(folder_of(run) for run in runs)
    return Comparison(folders=folders, found=report.compare(folders))


def folder_of(run: Run | str | Path) -> Path:
    """The folder of a run. Raises ConfigError for anything that is neither a run nor a path."""
    if isinstance(run, Run):
        return run.folder
    if not isinstance(run, str | Path):
        raise ConfigError(
            f"a run is a result of align or load_run, or its folder; got one of type {type(run).__name__}"
        )
    return Path(run)


def named(model: Run | str | Path) -> str:
    """A model as a command names it: a run by its folder. Raises ConfigError as `folder_of` does."""
    folder = folder_of(model)
    return str(folder if isinstance(model, Run) else model)
