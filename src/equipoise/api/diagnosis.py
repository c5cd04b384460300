"""Diagnosis of preference pairs under a model, and of what training did to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.api.comparison import named
from equipoise.api.data import read
from equipoise.api.options import placed, wrapped
from equipoise.data.convert import Account, convert
from equipoise.data.errors import DataError
from equipoise.data.ledger import Ledger
from equipoise.data.reading.given_rows import DataLike
from equipoise.data.reading.read import Dataset
from equipoise.evaluate.diagnosis.diagnosis import Diagnosed, Wanted, diagnosis
from equipoise.evaluate.located import Located, locate
from equipoise.evaluate.writer import Writer
from equipoise.html_text import html_table
from equipoise.policy.files import whole, write_json
from equipoise.report.diagnosis.findings import findings
from equipoise.report.diagnosis.text import write_diagnosis
from equipoise.report.findings import Finding
from equipoise.report.run.load import DIAGNOSIS
from equipoise.report.run.page import write_report
from equipoise.run.config import ConfigError, read_file, resolve
from equipoise.run.finished import Run
from equipoise.run.gathering.records import dataset_of, parts_of
from equipoise.run.materials import method_of
from equipoise.run.settings import RunConfig


@dataclass(frozen=True)
class Diagnosis:
    """Figures of a diagnosis in plain values, what they say, and what became of every row of the data.

    report    the run's report, where it shows them.
    """

    figures: Mapping[str, Any]
    ledger: Ledger
    report: Path | None = None

    @property
    def findings(self) -> list[Finding]:
        """What the figures say, the most serious first."""
        return findings(self.figures)

    def save(self, page: str | Path) -> Path:
        """Write the page."""
        return write_diagnosis(self.figures, self.ledger, Path(page))

    def _repr_html_(self) -> str:
        rows = [(one.level, one.title, one.text) for one in self.findings]
        return html_table(rows, ("", "finding", ""), f"{self.figures['pairs']:,} pairs")


def diagnose(
    model: Run | str | Path,
    data: DataLike | None = None,
    *,
    trained: Run | str | Path | None = None,
    beta: float | None = None,
    gradients: int = 32,
    samples: int = 0,
    max_new_tokens: int = 64,
    keep: float | None = None,
    filtered: str | Path | None = None,
    report: bool = False,
    round: str = "final",
    wrap: str = "none",
    system: str | None = None,
    limit: int | None = None,
    precision: str = "fp32",
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Diagnosis:
    """Diagnose preference pairs: which are likely to displace, which way a step moves them, what training did.

    model      a model before training; or a run, which brings its start, what it delivers, and its held-out pairs
    data       pairs, as `read` takes them; a run's own held-out pairs where none are given
    trained    a model that was trained from `model`
    beta       of the margin; a run's own, else 0.1
    gradients  pairs whose gradients are taken (each costs three passes; two gradients are held); 0: none
    samples    answers to each prompt of both models, for KL and coverage; 0: none
    keep       share of the pairs, those of least hidden similarity, that are written to `filtered` (JSON lines)
    report     keep the figures in the run's folder and show them in its report: of a run's own held-out pairs alone

    Raises ConfigError, DataError or ModelError.
    """
    _check_filter(keep, filtered)
    found = locate(named(model), round)
    if found.file:
        raise ConfigError(f"{found.file} is a file; give a model or a run, and the file as data")
    if report and (not found.run or data is not None or trained is not None or round != "final"):
        raise ConfigError(
            "a report shows the diagnosis of its run's own held-out pairs under what it delivers: give a run's folder "
            "alone, or write a page of its own (--out)"
        )
    before, after = (found.at(0), found) if found.run else (found, None)
    if found.run and found.round == 0 and trained is None:
        tell(f"{found.run.name} delivers its start: nothing has moved; --round shows what a later round did")
    if trained is not None:
        after = locate(named(trained), round)
    wanted = Wanted(
        beta=_beta(found) if beta is None else beta, gradients=gradients, samples=samples,
        max_new_tokens=max_new_tokens, seed=seed,
    )  # fmt: skip
    pairs: Dataset | None = None
    config = None
    if data is not None:
        pairs = _pairs(read(data, wrap=wrapped(wrap), system=system, limit=limit, seed=seed))
    elif found.run:
        config = _config_of(found.run)
    else:
        raise ConfigError("diagnose what? give data: preference pairs, or a run, which has its own")
    load = placed(precision) | ({"max_length": config.data.max_length} if config else {})
    tell(f"loading {before.name}")
    reference = Writer.load(before, **load)
    if pairs is None:
        assert config is not None
        pairs = _held_out(config, reference, before.journal.folder, limit)
    if after is not None:
        tell(f"loading {after.name}")
    made = diagnosis(reference, Writer.load(after, **load) if after else None, pairs, wanted, tell)
    if keep is not None and filtered is not None:
        _write_filtered(made, pairs, keep, Path(filtered))
    if not report or not found.run:
        return Diagnosis(made.figures, pairs.ledger)
    write_json(found.run / DIAGNOSIS, made.figures)
    return Diagnosis(made.figures, pairs.ledger, write_report(found.run))


def _check_filter(keep: float | None, filtered: str | Path | None) -> None:
    if (keep is None) != (filtered is None):
        raise ConfigError("keep, a share of the pairs, and filtered, the file for them, are given together")
    if keep is not None and not 0 < keep <= 1:
        raise ConfigError(f"keep must be a share above 0 and up to 1, got {keep}")


def _pairs(dataset: Dataset) -> Dataset:
    if dataset.kind != "pair":
        raise ConfigError(
            f"the data are of kind {dataset.kind}; a diagnosis is of pairs (equipoise data convert)"
        )
    return dataset


def _config_of(run: Path) -> RunConfig:
    """A run's configuration. Raises ConfigError for one that reads no recorded pairs."""
    stored = read_file(run / "config.yaml")
    config = resolve(str(stored.get("method")), stored)
    if method_of(config).players.needs.records != "pairs":
        raise ConfigError(f"{run} trains on no recorded pairs; give data")
    return config


def _held_out(config: RunConfig, reader: Writer, run: Path, limit: int | None) -> Dataset:
    """The pairs that a run holds out, read and split as it did. Raises ConfigError if there are none."""
    method = method_of(config)
    game = config.game()
    try:
        dataset = dataset_of(config, method, game, run)
    except DataError as error:
        raise ConfigError(
            f"the data that {run} was trained on cannot be read ({error}); give data, or call from the folder where it "
            "was trained"
        ) from error
    assert dataset is not None
    _, held = parts_of(config, method, dataset, reader.renderer)
    records = tuple(item.record for item in held[:limit])
    if not records:
        raise ConfigError(f"{run} holds out no pairs; give data")
    return _pairs(replace(dataset, records=records))


def _beta(found: Located) -> float:
    """Of a run whose objective has one; else that of most DPO recipes."""
    objective = read_file(found.run / "config.yaml").get("objective", {}) if found.run else {}
    beta = objective.get("beta")
    return float(beta) if isinstance(beta, int | float) and beta > 0 else Wanted.beta


def _write_filtered(made: Diagnosed, pairs: Dataset, keep: float, path: Path) -> None:
    """Write the pairs of least similarity in the order of the data, whole or not at all."""
    count = max(1, int(np.floor(keep * len(made.records) + 1e-9)))
    chosen = sorted(np.argsort(made.similarity, kind="stable")[:count].tolist())
    kept = replace(pairs, records=tuple(made.records[i] for i in chosen))
    with whole(path) as draft:
        draft.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in convert(kept, "jsonl", Account())),
            encoding="utf-8",
        )
