"""Reads data files into records, with a ledger that accounts for every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Literal, ParamSpec

from equipoise.data.errors import DataError
from equipoise.data.formats.detect import Survey, decide, survey
from equipoise.data.formats.format import Format
from equipoise.data.formats.parse_values import Reading
from equipoise.data.ledger import Ledger
from equipoise.data.place import Place
from equipoise.data.reading.admission import Admission
from equipoise.data.reading.data_files import DataFile, PathLike, sampled
from equipoise.data.reading.dataset_info import data_files
from equipoise.data.reading.joined import joined_kind, joined_space
from equipoise.data.reading.make_records import Maker
from equipoise.data.reading.mixture import Stop, account, check_shares, leave_out, mixed, no_records, repeated
from equipoise.data.reading.raw_rows import RawRows
from equipoise.data.reading.read_files import inputs_of, listed_again
from equipoise.data.records import Context, Kind, Record, Space
from equipoise.html_text import html_table

Options = ParamSpec("Options")
SHOWN = 5  # records that a notebook shows of a data set


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

    def _repr_html_(self) -> str:
        rows = [
            (str(number), _short(record.context), *(_short(c.content) for c in record.candidates[:2]))
            for number, record in enumerate(self.records[:SHOWN], 1)
        ]
        what = f"{len(self):,} records: {self.kind}, {self.space}, format {self.format}"
        return html_table(rows, ("", "prompt", "first answer", "second answer"), what, "; ".join(self.notes))


def _short(context: Context) -> str:
    """A prompt or an answer as a reader sees it: turns one below the other."""
    if isinstance(context, str):
        return context
    return "\n".join(f"{turn.role}: {turn.content}" for turn in context)


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


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One data file whose format is decided."""

    file: DataFile
    rows: RawRows
    survey: Survey
    entry: Format
    decision: str
    space: Space


def scan(
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
    mixture: Stop = "first_exhausted",
    seed: int = 0,
) -> Stream:
    """Streams pairs, unpaired feedback, lists, demonstrations or prompts from files, folders or the Hugging Face Hub.

    paths                 files, see `read_files.inputs_of`: JSON, JSON lines, CSV, Parquet or Arrow files, folders,
                          hf://...; each a path, or {path, format, mapping, weight, share, limit, split} with settings
                          of its own. A `dataset_info.json` stands for the data sets that it describes
    format                a name in `formats.registry.FORMATS`; "auto" decides for each file by all of its rows
    mapping               our column -> theirs, e.g. {"prompt": "instruction"}; `a.b` and `a.0` reach into values
    strict                the first refused row is an error
    limit                 most rows to read
    prompt_words          language-modelling text: number of leading words that become the prompt
    allow_empty_rejected  accept an empty `rejected`, as the answer that says nothing
    wrap                  "chat": rows of plain strings become chat turns; "none": they stay plain text
    system                system prompt of every conversation that has none
    equal_scores          what becomes of a pair whose answers have equal scores: as labelled, a tie, or refused
    mixture               of files with shares: "first_exhausted" repeats no record, "all_exhausted" uses every one
    seed                  of the rows that a file's `weight` or `share` keeps or repeats

    Memory holds one record, two bytes of each row and hashes of 8 to 16 bytes; lists that are grouped out of many rows,
    and files with a share or a weight above 1, are held whole. The files are read twice, first for the decision on
    their format; errors of rows come while the stream is read.

    Raises DataError for a damaged file, an uncertain format, files of different kinds or no usable row. Single rows
    that cannot be used are entered in the ledger as refused, with file, line and reason; duplicates are counted and
    left out.
    """
    files = data_files(paths, format=format, mapping=mapping or {})
    check_shares(files, mixture)
    ledger = Ledger(strict=strict, max_errors_shown=max_errors_shown)
    names = ", ".join(file.path for file in files)
    reading = Reading(
        prompt_words=prompt_words,
        allow_empty_rejected=allow_empty_rejected,
        wrap=wrap == "chat",
        system=system,
        equal_scores=equal_scores,
    )
    parts = []
    for rows in _raw_rows(files, ledger, limit):
        part = _part(rows, reading, ledger, seed)
        if part is None:
            if rows.file.share is not None:
                raise no_records(rows.file)
            for place, refusal in rows.refuse_all():
                ledger.refuse(place, refusal)
        else:
            parts.append(part)
            ledger.note(f"{part.file.path}: {part.decision}" if len(files) > 1 else part.decision)
            if part.entry.note:
                ledger.note(part.entry.note)
    if not parts:
        raise DataError(f"no rows to use\n{ledger}", file=names)
    return Stream(
        ledger=ledger,
        format=", ".join(dict.fromkeys(part.entry.name for part in parts)),
        kind=joined_kind({part.file.path: part.entry.kind for part in parts}),
        space=joined_space({part.file.path: part.space for part in parts}),
        records=_records(parts, reading, ledger, seed, names, mixture),
    )


def _collected(streamed: Callable[Options, Stream]) -> Callable[Options, Dataset]:
    """The same function, with the records collected."""

    @wraps(streamed)
    def collect(*paths: Options.args, **options: Options.kwargs) -> Dataset:
        stream = streamed(*paths, **options)
        records = tuple(stream)  # completes the ledger
        return Dataset(
            records=records, ledger=stream.ledger, format=stream.format, space=stream.space, kind=stream.kind
        )

    collect.__name__ = collect.__qualname__ = "read"
    collect.__doc__ = (streamed.__doc__ or "").replace("Streams", "Reads", 1)
    return collect


read = _collected(scan)


def _raw_rows(files: Sequence[DataFile], ledger: Ledger, limit: int | None) -> Iterator[RawRows]:
    """Each file's rows, at most `limit` in all."""
    most_of = [min((n for n in (limit, file.limit) if n is not None), default=None) for file in files]
    inputs = inputs_of([file.place for file in files], most_of)
    for item in inputs:
        for note in item.file.notes:
            ledger.note(note)
    for item, before in listed_again(inputs):
        ledger.note(f"{item.source.file} is the same file as {before.source.file}: its rows count once")
    left = limit
    for number, file in enumerate(files):
        most = min((n for n in (left, file.limit) if n is not None), default=None)
        rows = RawRows([item for item in inputs if item.listed == number], file, most)
        yield rows
        if most is not None:
            count = sum(1 for _ in rows)
            if count == most:
                ledger.note(f"limit {most}: later rows were not read")
            left = None if left is None else left - count


def _part(rows: RawRows, reading: Reading, ledger: Ledger, seed: int) -> _Part | None:
    """The file with its format decided from all of its rows, and with its share of them; None if it has no rows."""
    file = rows.file
    if file.weight < 1:
        names = [place.id for place, _ in rows]
        rows.kept = frozenset(sampled(range(len(names)), names, file.weight, seed))
        ledger.note(f"{file.path}: weight {file.weight:g} keeps {len(rows.kept):,} of {len(names):,} rows")
    found = survey(rows.objects())
    if not found.rows:
        return None
    try:
        entry, decision = decide(found, file.format, file=file.path)
    except DataError as error:
        doubt = next((item.file.doubt for item in rows.inputs if item.file.doubt), None)
        if doubt:
            raise DataError(error.reason, file=file.path, hint=doubt) from None
        raise
    chat = reading.wrap or reading.system or found.has_system
    space: Space = "chat" if chat else entry.space
    return _Part(file=file, rows=rows, survey=found, entry=entry, decision=decision, space=space)


def _records(
    parts: Sequence[_Part],
    reading: Reading,
    ledger: Ledger,
    seed: int,
    names: str,
    mixture: Stop,
) -> Iterator[Record]:
    """The records of all files, each new one once; what becomes of every row is entered in the ledger."""
    admission = Admission(ledger)
    shared: list[list[Record]] = []
    joined: dict[Place, list[Place]] = {}
    for part in parts:
        maker = Maker(part.entry, part.space, reading, part.survey.sample)
        records = maker.records(part.rows, admission)
        if part.file.share is not None:
            shared.append(list(records))
            joined |= maker.joined
        elif part.file.weight > 1:
            yield from _weighted(list(records), part.file, seed, ledger)
        else:
            yield from records
        if part.space != part.entry.space and maker.made:
            ledger.note(f"strings became chat turns in {maker.made:,} records of {part.file.path}")
    if not ledger.used:
        decisions = "; ".join(dict.fromkeys(part.decision for part in parts))
        raise DataError(f"every row was refused\n{ledger}", file=names, hint=decisions)
    if shared:
        made, drawn = mixed([part.file for part in parts], shared, mixture, seed)
        leave_out(ledger, [record for own in shared for record in own], made, joined)
        ledger.note(account(drawn, mixture))
        admission.recount(made)
        yield from made
    ledger.repaired.update(reading.repaired)
    for sentence, times in reading.notes.items():
        ledger.note(f"{sentence} ({times:,} times)")
    admission.finish()
    ledger.balance()


def _weighted(records: list[Record], file: DataFile, seed: int, ledger: Ledger) -> list[Record]:
    """Every record as often as the file's weight says: its whole part, and a share of them once more."""
    count = int(file.weight) * len(records) + round(file.weight % 1 * len(records))
    made = repeated(records, count, seed)
    ledger.note(f"{file.path}: weight {file.weight:g} gives {len(made):,} records, some of them repeated")
    return made
