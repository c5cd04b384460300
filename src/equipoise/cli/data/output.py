"""What the `data` commands that write share: data in, rows out, and the account on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from equipoise.cli.output_file import STDOUT, write_new
from equipoise.data.convert import Account, Row, Target, convert, dataset_info
from equipoise.data.errors import DataError
from equipoise.data.ranked_lists import as_pairs
from equipoise.data.reading.read import Dataset, read
from equipoise.data.records import Kind
from equipoise.safe_text import printable

JUDGED = "judging.parquet"  # of a run's round: comparisons with their labels


def dataset_of(
    files: Sequence[Any], settings: Mapping[str, Any], *, round: int | None = None, pairs: Any = None
) -> Dataset:
    """The files as a data set, or the judged responses of one run folder; lists as pairs if asked.

    Raises DataError.
    """
    run = len(files) == 1 and isinstance(files[0], str) and (Path(files[0]) / "rounds").is_dir()
    if round is not None and not run:
        raise DataError("--round is of a run folder", hint="give one run folder and nothing else")
    dataset = _judged(Path(files[0]), round, settings) if run else read(files, **settings)
    if pairs is None:
        return dataset
    if dataset.kind not in ("rank", "scores"):
        raise DataError(f"--pairs makes pairs of lists; these rows are of kind {dataset.kind}")
    return as_pairs(dataset, pairs)


def _judged(folder: Path, round: int | None, settings: Mapping[str, Any]) -> Dataset:
    """The stored rounds of a run folder, read as data are: equal or empty responses are refused and counted."""
    files = {int(file.parent.name): file for file in sorted((folder / "rounds").glob(f"[0-9]*/{JUDGED}"))}
    if not files:
        raise DataError("no judged responses in this folder", file=str(folder), hint="give a run folder")
    if round is not None and round not in files:
        listed = ", ".join(map(str, files))
        raise DataError(f"no round {round}", file=str(folder), hint=f"rounds with judged responses: {listed}")
    return read([file for number, file in files.items() if round in (None, number)], **settings)


def converted(dataset: Dataset, to: Target, *, lossless: bool = False) -> tuple[list[Row], Account]:
    """(rows, account). Raises DataError if lossless and anything is left out."""
    account = Account()
    rows = list(convert(dataset, to, account))
    if lossless and (account.left_out or account.lost):
        said = "; ".join(account.sentences()[1:])
        raise DataError(
            f"{to} cannot hold everything: {said}", hint="convert to jsonl, or without --lossless"
        )
    if not rows:
        raise DataError(f"no row can be written: {'; '.join(account.sentences()[1:])}")
    return rows, account


def lines(rows: Iterable[Row], out: str) -> Iterator[str]:
    """JSON lines; on a terminal in ASCII, which no character set and no terminal changes."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=out == STDOUT, allow_nan=False) + "\n"


def write(
    *parts: tuple[str, Dataset], to: Target = "jsonl", lossless: bool = False, overwrite: bool = False
) -> None:
    """Write parts of one data set to a file each, all files or none; the ledger and the account on standard error.

    Raises DataError for a part of which no row can be written, and if `lossless` where anything is left out.
    """
    made = [(out, *converted(part, to, lossless=lossless)) for out, part in parts]
    write_new(*((out, lines(rows, out)) for out, rows, _ in made), overwrite=overwrite)
    _, dataset = parts[0]
    console = Console(stderr=True)
    console.print(dataset.ledger.table())
    for sentence in (*dataset.ledger.notes, *(s for _, _, account in made for s in account.sentences())):
        console.print(f"- {printable(sentence)}", markup=False, highlight=False)


def report_layout(to: Target, kind: Kind, out: str) -> None:
    """How the other project is told of the file."""
    if to == "llama-factory":
        entry = json.dumps({Path(out).stem: dataset_info(kind, Path(out).name)})
        Console(stderr=True).print(
            f"- entry of dataset_info.json: {entry}", markup=False, highlight=False, soft_wrap=True
        )
