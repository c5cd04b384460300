"""Reads data files into records, with a ledger that accounts for every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.columns import MEDIA_COLUMNS, OPTIONAL_COLUMNS
from equipoise.data.formats.detect import decide
from equipoise.data.formats.format import Format
from equipoise.data.formats.parse_values import Reading, bad_text, common_of
from equipoise.data.ledger import Ledger, Remark
from equipoise.data.place import Place
from equipoise.data.read_files import listed_again, rows_of, sources
from equipoise.data.records import Kind, Record, Space, digest, plain


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
    """Reads pairs, unpaired feedback, ranked lists or prompts from JSON, JSON lines or Parquet files.

    format                a name in `formats.registry.FORMATS`; "auto" decides from the columns of all rows
    mapping               our column -> theirs, e.g. {"prompt": "instruction"}
    strict                the first refused row is an error
    limit                 most rows to read
    prompt_words          language-modelling text: number of leading words that become the prompt
    allow_empty_rejected  accept an empty `rejected`, as the answer that says nothing

    Raises DataError for a damaged file, an uncertain format or no usable row. Single rows that cannot be used
    are entered in the ledger as refused, with file, line and reason; duplicates are counted and left out.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    ledger = Ledger(strict=strict, max_errors_shown=max_errors_shown)
    rows = _raw_rows(files, mapping or {}, ledger, limit)
    names = ", ".join(str(file) for file in files)
    if not rows:
        raise DataError(f"no rows to use\n{ledger}", file=names)
    entry, decision = decide([row for _, row in rows], format, file=names)
    ledger.note(decision)
    reading = Reading(prompt_words=prompt_words, allow_empty_rejected=allow_empty_rejected)
    records = _records(rows, entry, reading, ledger)
    if not records:
        raise DataError(f"every row was refused\n{ledger}", file=names, hint=decision)
    ledger.repaired.update(reading.repaired)
    for sentence, count in reading.notes.items():
        ledger.note(f"{sentence} ({count:,} times)")
    _note_labels(records, ledger)
    ledger.balance()
    return Dataset(
        records=tuple(records), ledger=ledger, format=entry.name, space=entry.space, kind=entry.kind
    )


def _raw_rows(
    files: Sequence[str | Path], mapping: Mapping[str, str], ledger: Ledger, limit: int | None
) -> list[tuple[Place, dict[str, Any]]]:
    """The rows of all files that are objects with valid text, their columns renamed by the mapping."""
    listed = sources(files)
    for source, before in listed_again(listed):
        ledger.note(
            f"{source.file} is the same file as {before.file}: its rows are duplicates, and count once"
        )
    stream = (
        (Place(source, number, line), row)
        for source in listed
        for number, (line, row) in enumerate(rows_of(source.file), 1)
    )
    rows = []
    for place, row in islice(stream, limit):
        if not isinstance(row, Mapping):
            ledger.refuse(place, Refusal("row is not an object", type(row).__name__))
        elif why := bad_text(row):
            ledger.refuse(place, Refusal("invalid characters", why))
        else:
            rows.append((place, _renamed(row, mapping)))
    if limit is not None and ledger.read + len(rows) == limit:
        ledger.note(f"limit {limit}: later rows were not read")
    for ours, theirs in mapping.items():
        if rows and not any(ours in row for _, row in rows):
            raise DataError(f"mapping: no row has the column `{theirs}` (for `{ours}`)")
    return rows


def _renamed(row: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    theirs = {theirs: ours for ours, theirs in mapping.items()}
    kept = {name: value for name, value in row.items() if name not in mapping or name in theirs}
    return {theirs.get(name, name): value for name, value in kept.items()}


def _records(
    rows: Sequence[tuple[Place, dict[str, Any]]], entry: Format, reading: Reading, ledger: Ledger
) -> list[Record]:
    records = []
    seen: dict[str, Place] = {}
    for place, row in rows:
        try:
            record = _record(row, entry, reading, place)
        except Refusal as refusal:
            ledger.refuse(place, refusal)
            continue
        first = seen.setdefault(record.identity(), place)
        if first is place:
            ledger.use(place)
            records.append(record)
        else:
            ledger.repeat(place, first)
    return records


def _record(row: dict[str, Any], entry: Format, reading: Reading, place: Place) -> Record:
    missing = next((name for name in entry.columns if name not in row), None)
    if missing:
        raise Refusal(f"no column `{missing}`")
    common = common_of(row, reading)
    fields = entry.parse(row, reading)
    named = {*entry.columns, *OPTIONAL_COLUMNS, *MEDIA_COLUMNS}
    extra = {name: value for name, value in row.items() if name not in named}
    fields["extra"] = extra | fields.get("extra", {})
    return Record(kind=entry.kind, place=place, **common, **fields)


def _note_labels(records: Sequence[Record], ledger: Ledger) -> None:
    """Adds notes on labels that contradict each other or do not vary."""
    if records[0].kind == "unpaired":
        up = sum(record.desirable is True for record in records)
        ledger.note(f"labels: {up:,} desirable, {len(records) - up:,} undesirable")
        if up in (0, len(records)):
            ledger.note("all labels are equal: losses with a KL or baseline term are degenerate here")
    against = contradictions(records)
    for record in against:
        ledger.remark(record.place, Remark.CONTRADICTION)
    if against:
        lines = "; ".join(record.place.short for record in against[: ledger.max_errors_shown])
        ledger.note(f"{len(against):,} rows contradict an earlier label on the same answers; kept ({lines})")


def contradictions(records: Sequence[Record]) -> list[Record]:
    """Pairs that occurred before in the opposite order, and answers that occurred with the opposite label."""
    seen: set[tuple[str, ...]] = set()
    contradicting = []
    for record in records:
        answers = [digest(plain(candidate.content)) for candidate in record.candidates]
        label = [str(record.desirable)] if record.kind == "unpaired" else []
        turned = [str(not record.desirable)] if record.kind == "unpaired" else []
        if record.candidates and (record.group, *reversed(answers), *turned) in seen:
            contradicting.append(record)
        seen.add((record.group, *answers, *label))
    return contradicting
