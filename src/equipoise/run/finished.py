"""Run folders as results in Python: what `align` returns and `load_run` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.evaluate.support import delivered
from equipoise.html_text import html_table
from equipoise.report.run.load import Estimate, Round, RunFolderError, Sample, Step
from equipoise.report.run.load import Run as Record
from equipoise.report.run.load import load_run as read_folder
from equipoise.report.run.metrics import ROUND_METRICS
from equipoise.worlds.folder.journal import Journal


@dataclass(frozen=True)
class Run:
    """A run: its folder, its summary (as in summary.json; empty before the run has ended), and its report page."""

    folder: Path
    summary: Mapping[str, Any]
    report: Path

    @property
    def checkpoint(self) -> Path:
        """The delivered policy, a Hugging Face folder: of the last round, or of the last within the support."""
        journal = Journal(self.folder)
        return journal.checkpoint(self.summary["delivered"] if self.summary else delivered(journal))

    @property
    def best(self) -> Path | None:
        """The best checkpoint by evaluate.best; None if none was asked for, or its metric was never measured."""
        best = self.summary.get("best")
        return self.folder / best["folder"] if best else None

    @property
    def record(self) -> Record:
        """Everything that the folder holds, typed. Raises RunFolderError for a damaged folder."""
        return read_folder(self.folder)

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Figures after each round, as in evaluation.jsonl; round 0 is the policy at the start."""
        return self.record.rounds

    @property
    def steps(self) -> tuple[Step, ...]:
        """Figures of each optimizer step, as in metrics.jsonl."""
        return self.record.steps

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The shown responses of each round, as in samples.jsonl."""
        return self.record.samples

    def _repr_html_(self) -> str:
        rounds = self.rounds
        shown = [
            metric
            for metric in ROUND_METRICS
            if any(getattr(line, metric.name, None) is not None for line in rounds)
        ]
        rows = [
            (metric.title, *(_cell(metric, getattr(line, metric.name, None)) for line in rounds))
            for metric in shown
        ]
        name = str(self.summary.get("title") or self.summary.get("method") or self.folder.name)
        state = str(self.summary.get("status") or "unfinished")
        headings = ["", *(f"round {line.round}" if line.round else "start" for line in rounds)]
        return html_table(rows, headings, f"{name}, {state}", f"Report: {self.report}")


def load_run(folder: str | Path) -> Run:
    """Load a run folder, finished or not, as `align` returns it.

    Raises RunFolderError for a folder that is no run folder, or whose files are not as the run wrote them.
    """
    folder = Path(folder)
    read_folder(folder)  # refuses what is damaged
    file = folder / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not isinstance(summary, dict):
        raise RunFolderError(f"{file} does not hold a summary; restore it from a copy")
    return Run(folder, summary, folder / "report.html")


def _cell(metric: Any, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Estimate):
        interval = metric.show_interval(value)
        return str(metric.show(value.value)) + (f" ({interval})" if interval else "")
    return str(metric.show(value))
