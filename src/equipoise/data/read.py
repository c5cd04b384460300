"""Reads data files into records, with a ledger that accounts for every row."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from equipoise.data.admission import Admission
from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.columns import MEDIA_COLUMNS, OPTIONAL_COLUMNS
from equipoise.data.formats.detect import decide
from equipoise.data.formats.format import Format
from equipoise.data.formats.parse_values import Reading, common_of
from equipoise.data.ledger import Ledger
from equipoise.data.place import Place
from equipoise.data.raw_rows import RawRows
from equipoise.data.read_files import inputs_of, listed_again
from equipoise.data.records import Kind, Record, Space


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Records of one kind in one space, with the ledger of the rows they came from.

    Rendering the records continues the ledger; the parts of a split share it.
    """

    records: tuple[Record, ...]
    ledger: Ledger
    format: str
    space: Space
    kind: Kind

    def __len__(self) -> int:
        return len(self.records)

    @property
    def notes(self) -> list[str]:
        """Notes for the user: the format decision, and everything that was wrapped, suspicious or cut."""
        return self.ledger.notes

    def with_records(self, records: Sequence[Record]) -> Dataset:
        """The same data set with some of its records."""
        return replace(self, records=tuple(records))


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Records of one kind in one space, one after the other: what `read` keeps, for those who keep nothing.

    format, space and kind are decided from all rows before the first record; the ledger is complete, and its notes are
    written, when the stream has ended. It can be read once.
    """

    ledger: Ledger
    format: str
    space: Space
    kind: Kind
    records: Iterator[Record]

    def __iter__(self) -> Iterator[Record]:
        return self.records


def read(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str = "auto",
    mapping: Mapping[str, str] | None = None,
    strict: bool = False,
    limit: int | None = None,
    max_errors_shown: int = 3,
    prompt_words: int | None = None,
    allow_empty_rejected: bool = False,
) -> Dataset:
    """Reads pairs, unpaired feedback, lists, demonstrations or prompts from files, folders or the Hugging Face Hub.

    paths                 see `read_files.inputs_of`: JSON, JSON lines, CSV, Parquet or Arrow files, folders, hf://...
    format                a name in `formats.registry.FORMATS`; "auto" decides from the columns of all rows
    mapping               our column -> theirs, e.g. {"prompt": "instruction"}
    strict                the first refused row is an error
    limit                 most rows to read
    prompt_words          language-modelling text: number of leading words that become the prompt
    allow_empty_rejected  accept an empty `rejected`, as the answer that says nothing

    Raises DataError for a damaged file, an uncertain format or no usable row. Single rows that cannot be used
    are entered in the ledger as refused, with file, line and reason; duplicates are counted and left out.
    """
    stream = scan(
        paths,
        format=format,
        mapping=mapping,
        strict=strict,
        limit=limit,
        max_errors_shown=max_errors_shown,
        prompt_words=prompt_words,
        allow_empty_rejected=allow_empty_rejected,
    )
    return Dataset(
        records=tuple(stream),
        ledger=stream.ledger,
        format=stream.format,
        space=stream.space,
        kind=stream.kind,
    )


def scan(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str = "auto",
    mapping: Mapping[str, str] | None = None,
    strict: bool = False,
    limit: int | None = None,
    max_errors_shown: int = 3,
    prompt_words: int | None = None,
    allow_empty_rejected: bool = False,
) -> Stream:
    """The records of `read`, streamed: memory holds one record, two bytes of each row and hashes of 8 to 16 bytes.

    The files are read twice, first for the decision on their format. Options and errors are those of `read`; errors of
    rows come while the stream is read.
    """
    inputs = inputs_of([paths] if isinstance(paths, str | Path) else list(paths))
    ledger = Ledger(strict=strict, max_errors_shown=max_errors_shown)
    for item in inputs:
        for note in item.file.notes:
            ledger.note(note)
    for item, before in listed_again(inputs):
        ledger.note(f"{item.source.file} is the same file as {before.source.file}: its rows count once")
    rows = RawRows(inputs, mapping or {}, limit)
    names = ", ".join(str(item.source.file) for item in inputs)
    if next(rows.objects(), None) is None:
        _refuse_all(rows, ledger)
        raise DataError(f"no rows to use\n{ledger}", file=names)
    try:
        entry, decision = decide(rows.objects(), format, file=names)
    except DataError as error:
        doubt = next((item.file.doubt for item in inputs if item.file.doubt), None)
        if doubt:
            raise DataError(error.reason, file=names, hint=doubt) from None
        raise
    ledger.note(decision)
    reading = Reading(prompt_words=prompt_words, allow_empty_rejected=allow_empty_rejected)
    return Stream(
        ledger=ledger,
        format=entry.name,
        space=entry.space,
        kind=entry.kind,
        records=_records(rows, entry, reading, ledger, DataError(decision, file=names)),
    )


def _refuse_all(rows: RawRows, ledger: Ledger) -> None:
    for place, row in rows:
        if isinstance(row, Refusal):
            ledger.refuse(place, row)


def _records(
    rows: RawRows, entry: Format, reading: Reading, ledger: Ledger, decision: DataError
) -> Iterator[Record]:
    """The records of the rows, each new one once; what becomes of every row is entered in the ledger."""
    admission = Admission(ledger)
    named = {*entry.columns, *OPTIONAL_COLUMNS, *MEDIA_COLUMNS}
    for place, row in rows:
        try:
            if isinstance(row, Refusal):
                raise row
            record = _record(row, entry, reading, place, named)
        except Refusal as refusal:
            ledger.refuse(place, refusal)
            continue
        if admission.take(record):
            yield record
    if ledger.read == rows.limit:
        ledger.note(f"limit {rows.limit}: later rows were not read")
    if not ledger.used:
        raise DataError(f"every row was refused\n{ledger}", file=decision.file, hint=decision.reason)
    ledger.repaired.update(reading.repaired)
    for sentence, times in reading.notes.items():
        ledger.note(f"{sentence} ({times:,} times)")
    admission.finish()
    ledger.balance()


def _record(
    row: dict[str, Any], entry: Format, reading: Reading, place: Place, named: Container[str]
) -> Record:
    """The record of one row. Raises Refusal for a row that cannot be used, whatever its values are.

    named   the columns that formats know; all others are kept, unused
    """
    missing = next((name for name in entry.columns if name not in row), None)
    if missing:
        raise Refusal(f"no column `{missing}`")
    try:
        common = common_of(row, reading)
        fields = entry.parse(row, reading)
    except (DataError, Refusal):
        raise
    except UNEXPECTED as error:
        raise _unexpected(row, entry, error) from None
    extra = {name: value for name, value in row.items() if name not in named}
    fields["extra"] = extra | fields.get("extra", {})
    return Record(kind=entry.kind, place=place, **common, **fields)


# what a parser raises for values of a type or size that its format does not have
UNEXPECTED = (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RecursionError)


def _unexpected(row: Mapping[str, Any], entry: Format, error: Exception) -> Refusal:
    shapes = ", ".join(f"{name} is {type(row.get(name)).__name__}" for name in entry.columns)
    return Refusal(f"values that {entry.name} does not have", f"{shapes}: {error}")
