"""Reads data files into records, with a ledger that accounts for every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from equipoise.data.data_files import DataFile, PathLike, sampled
from equipoise.data.dataset_info import data_files
from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.detect import decide
from equipoise.data.formats.format import Format
from equipoise.data.formats.parse_values import Reading, bad_text
from equipoise.data.joined import joined_kind, joined_space
from equipoise.data.ledger import Ledger, Place, short_place
from equipoise.data.make_records import records_of, space_of
from equipoise.data.mapped import renamed, unpacked
from equipoise.data.read_files import rows_of
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


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The records of one file."""

    file: DataFile
    entry: Format
    space: Space
    records: list[Record]


def read(
    paths: PathLike | Sequence[PathLike],
    *,
    format: str = "auto",
    mapping: Mapping[str, str] | None = None,
    strict: bool = False,
    limit: int | None = None,
    max_errors_shown: int = 3,
    prompt_words: int | None = None,
    allow_empty_rejected: bool = False,
    wrap: str = "none",
    system: str | None = None,
    equal_scores: Literal["keep", "tie", "drop"] = "keep",
    seed: int = 0,
) -> Dataset:
    """Reads pairs, unpaired feedback, ranked lists or prompts from data files.

    paths                 files; each a path, or {path, format, mapping, weight, limit, split} with settings of its own.
                          A `dataset_info.json` stands for the data sets that it describes
    format                a name in `formats.registry.FORMATS`; "auto" decides for each file by all of its rows
    mapping               our column -> theirs, e.g. {"prompt": "instruction"}; `a.b` and `a.0` reach into values
    strict                the first refused row is an error
    limit                 most rows to read
    prompt_words          language-modelling text: number of leading words that become the prompt
    allow_empty_rejected  accept an empty `rejected`, as the answer that says nothing
    wrap                  "chat": rows of plain strings become chat turns; "none": they stay plain text
    system                system prompt of every conversation that has none
    equal_scores          what becomes of a pair whose answers have equal scores: as labelled, a tie, or refused
    seed                  of the rows that a file's `weight` below 1 keeps, or above 1 repeats

    Raises DataError for a damaged file, an uncertain format, files of different kinds or no usable row. Single rows
    that cannot be used are entered in the ledger as refused, with file, line and reason; duplicates are counted and
    left out.
    """
    files = data_files(paths, format=format, mapping=mapping or {})
    ledger = Ledger(strict=strict, max_errors_shown=max_errors_shown)
    names = ", ".join(file.path for file in files)
    reading = Reading(
        prompt_words=prompt_words,
        allow_empty_rejected=allow_empty_rejected,
        wrap=wrap == "chat",
        system=system,
        equal_scores=equal_scores,
    )
    seen: dict[str, Place] = {}
    parts: list[_Part] = []
    for file, rows in _raw_rows(files, ledger, limit, seed):
        if rows:
            parts.append(_part(file, rows, reading, ledger, seen, seed, several=len(files) > 1))
    if not parts:
        raise DataError(f"no rows to use\n{ledger}", file=names)
    records = [record for part in parts for record in part.records]
    if not records:
        raise DataError(f"every row was refused\n{ledger}", file=names, hint=ledger.notes[0])
    used = [part for part in parts if part.records]
    kind = joined_kind({part.file.path: part.entry.kind for part in used})
    space = joined_space({part.file.path: part.space for part in used})
    ledger.repaired.update(reading.repaired)
    for sentence, count in reading.notes.items():
        ledger.note(f"{sentence} ({count:,} times)")
    _note_labels(records, ledger)
    ledger.balance()
    formats = dict.fromkeys(part.entry.name for part in used)
    return Dataset(records=tuple(records), ledger=ledger, format=", ".join(formats), space=space, kind=kind)


def _part(
    file: DataFile,
    rows: list[tuple[Place, dict[str, Any]]],
    reading: Reading,
    ledger: Ledger,
    seen: dict[str, Place],
    seed: int,
    *,
    several: bool,
) -> _Part:
    """The records of one file's rows: its format decided, its weight applied."""
    entry, decision = decide([row for _, row in rows], file.format, file=file.path)
    ledger.note(f"{file.path}: {decision}" if several else decision)
    if entry.note:
        ledger.note(entry.note)
    space = space_of(rows, entry, reading)
    records = records_of(rows, entry, space, reading, ledger, seen)
    if space != entry.space and records:
        ledger.note(f"strings became chat turns in {len(records):,} records of {file.path}")
    if file.weight > 1:
        records = _repeated(records, file.weight, seed)
        ledger.note(
            f"{file.path}: weight {file.weight:g} gives {len(records):,} records, some of them repeated"
        )
    return _Part(file=file, entry=entry, space=space, records=records)


def _repeated(records: list[Record], weight: float, seed: int) -> list[Record]:
    """Every record as often as the weight's whole part, and a share of them once more; copies have ids of their own."""
    more = sampled(records, [record.id for record in records], weight % 1, seed)
    copies = [records] * int(weight) + [more]
    return [
        replace(record, id=f"{record.id}~{number}") if number else record
        for number, copy in enumerate(copies)
        for record in copy
    ]


def _raw_rows(
    files: Sequence[DataFile], ledger: Ledger, limit: int | None, seed: int
) -> list[tuple[DataFile, list[tuple[Place, dict[str, Any]]]]]:
    """Each file with its rows that are objects with valid text, their columns renamed by its mapping."""
    left = limit
    parts = []
    for file in files:
        most = min((n for n in (left, file.limit) if n is not None), default=None)
        stream = (((file.path, line), row) for line, row in rows_of(file.path))
        taken = list(islice(stream, most))
        if most is not None and len(taken) == most:
            ledger.note(f"limit {most}: later rows were not read")
        left = None if left is None else left - len(taken)
        parts.append((file, _valid(_share(taken, file, ledger, seed), file, ledger)))
    return parts


def _share(
    rows: list[tuple[Place, Any]], file: DataFile, ledger: Ledger, seed: int
) -> list[tuple[Place, Any]]:
    """The share of the rows that a weight below 1 keeps."""
    if file.weight >= 1:
        return rows
    kept = sampled(rows, [f"{place[0]}:{place[1]}" for place, _ in rows], file.weight, seed)
    ledger.note(f"{file.path}: weight {file.weight:g} keeps {len(kept):,} of {len(rows):,} rows")
    return kept


def _valid(
    rows: Sequence[tuple[Place, Any]], file: DataFile, ledger: Ledger
) -> list[tuple[Place, dict[str, Any]]]:
    kept = []
    for place, row in rows:
        if not isinstance(row, Mapping):
            ledger.refuse(place, Refusal("row is not an object", type(row).__name__))
        elif why := bad_text(row):
            ledger.refuse(place, Refusal("invalid characters", why))
        else:
            kept.append((place, unpacked(renamed(row, file))))
    for ours, theirs in file.mapping.items():
        if kept and not any(ours in row for _, row in kept):
            raise DataError(f"mapping: no row has the column `{theirs}` (for `{ours}`)", file=file.path)
    return kept


def _note_labels(records: Sequence[Record], ledger: Ledger) -> None:
    """Adds notes on labels that contradict each other or do not vary."""
    if records[0].kind == "unpaired":
        up = sum(record.desirable is True for record in records)
        ledger.note(f"labels: {up:,} desirable, {len(records) - up:,} undesirable")
        if up in (0, len(records)):
            ledger.note("all labels are equal: losses with a KL or baseline term are degenerate here")
    for what, found in unsupported(records).items():
        lines = "; ".join(short_place((r.file, r.line)) for r in found[: ledger.max_errors_shown])
        ledger.note(f"{len(found):,} pairs have {what} scores, and are labelled as certain wins ({lines})")
    against = contradictions(records)
    if against:
        lines = "; ".join(short_place((r.file, r.line)) for r in against[: ledger.max_errors_shown])
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


def unsupported(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Pairs whose scores do not say what the label says: "equal" ones, and "inverted" ones (the other is higher)."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.kind != "pair" or record.prob == 0.5:
            continue
        one, two = (candidate.score for candidate in record.candidates)
        if one is not None and two is not None and (lead := (one - two) * (record.prob - 0.5)) <= 0:
            found.setdefault("equal" if lead == 0 else "inverted", []).append(record)
    return found
