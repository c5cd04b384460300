"""An oracle check of data files: read as a run would read them, every left-out row counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.ledger import Ledger
from equipoise.data.reading.read import read
from equipoise.evaluate.oracle_check import Wanted, check, comparisons_of
from equipoise.oracles.checked import Checked
from equipoise.worlds.text.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of `equipoise oracle check`; figures: see `evaluate.oracle_check.check`."""

    files: Sequence[str]
    kind: str
    format: str
    ledger: Ledger
    figures: Mapping[str, Any]

    @property
    def first(self) -> Mapping[str, Any]:
        """The oracle that is checked."""
        return self.figures["oracles"][0]


def oracle_check(
    oracles: Sequence[Checked],
    files: Sequence[str | Path],
    wanted: Wanted,
    *,
    limit: int | None = None,
    writers: tuple[str, str] | None = None,
    progress: Progress | None = None,
    **reading: Any,
) -> Report:
    """Read the files and check the oracles on their comparisons; settings as `read` and `comparisons_of` take them.

    Raises DataError and OracleError as these and `evaluate.oracle_check.check` do.
    """
    dataset = read(list(files), **reading)
    weighted = sum(record.weight != 1 for record in dataset.records)
    if weighted:
        dataset.ledger.note(
            f"{weighted:,} rows have a weight, which a check leaves aside: each comparison counts once"
        )
    comparisons = comparisons_of(dataset, limit=limit, writers=writers, seed=wanted.seed)
    return Report(
        files=[str(file) for file in files],
        kind=dataset.kind,
        format=dataset.format,
        ledger=dataset.ledger,
        figures=check(oracles, comparisons, wanted, progress),
    )


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain data, for `--json`."""
    read_from: dict[str, Any] = {"files": list(report.files), "kind": report.kind, "format": report.format}
    read_from |= {"ledger": report.ledger.as_json()}
    return {**report.figures, "data": read_from | report.figures["data"]}
