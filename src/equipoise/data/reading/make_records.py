"""Raw rows of one format to records: parsing, chat turns, duplicates, and what was not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from equipoise.data.errors import DataError, OffScale, Refusal
from equipoise.data.formats.annotations import annotations_of, answer_attributes, with_attributes
from equipoise.data.formats.answer_like import is_prose, verdict_columns
from equipoise.data.formats.format import Fields, Format, RawRow, Tracked
from equipoise.data.formats.in_chat import as_chat, with_system
from equipoise.data.formats.parse_values import Reading, common_of
from equipoise.data.ledger import Ledger
from equipoise.data.place import Place
from equipoise.data.reading.admission import Admission
from equipoise.data.records import Record, Space

OFF_SCALE = 0.1  # share of the rows from which numbers off the scale are no slips of single rows
# what a parser raises for values of a type or size that its format does not have
UNEXPECTED = (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RecursionError)


@dataclass
class Maker:
    """Makes records of the rows of one format, each row entered in the ledger as used, refused or a duplicate.

    A row may give several records, which are numbered; those of a grouped format form one list for each prompt.

    sample  some of the rows, to look for a judgement that nothing reads
    joined  place of a list that was made of several rows -> the places of all of them
    """

    entry: Format
    space: Space
    reading: Reading
    sample: Sequence[RawRow]
    made: int = 0
    joined: dict[Place, list[Place]] = field(default_factory=dict)
    _unread: Counter[str] = field(default_factory=Counter)
    _read: set[str] = field(default_factory=set)
    _off_scale: int = 0
    _first_off_scale: tuple[Place, Refusal] | None = None
    _rows: int = 0

    def __post_init__(self) -> None:
        # the counts of notes and repairs stay shared
        self.reading = replace(self.reading, wrap=self.space == "chat")

    def records(
        self, rows: Iterable[tuple[Place, dict[str, Any] | Refusal]], admission: Admission
    ) -> Iterator[Record]:
        """The records of these rows, each new one once."""
        single = self._admitted(rows, admission)
        for record in self._grouped(list(single), admission.ledger) if self.entry.grouped else single:
            self.made += 1
            yield record
        self._check_scale()
        self._note_unread(admission.ledger)

    def _admitted(
        self, rows: Iterable[tuple[Place, dict[str, Any] | Refusal]], admission: Admission
    ) -> Iterator[Record]:
        for place, row in rows:
            self._rows += 1
            if isinstance(row, Refusal):
                admission.ledger.refuse(place, row)
                continue
            tracked = Tracked(row)
            try:
                made = self._made(tracked, place)
            except Refusal as refusal:
                if isinstance(refusal, OffScale):
                    self._off_scale += 1
                    self._first_off_scale = self._first_off_scale or (place, refusal)
                admission.ledger.refuse(place, refusal)
                continue
            self._unread.update(_unread(tracked))
            self._read |= tracked.used
            yield from admission.take(made)

    def _made(self, row: Tracked, place: Place) -> list[Record]:
        missing = self.entry.missing(frozenset(row))
        if missing:
            raise Refusal(f"no column `{missing[0]}`")
        try:
            common = common_of(row, self.reading) | annotations_of(row, self.reading)
            parsed = _single_attributes(self.entry.parse(row, self.reading), row, self.reading)
        except (DataError, Refusal):
            raise
        except UNEXPECTED as error:
            raise _unexpected(row, self.entry, error) from None
        rows = parsed if isinstance(parsed, list) else [parsed]
        if not rows:
            raise Refusal("the row holds no answer")
        if self.space == "chat":
            rows = [with_system(as_chat(fields, self.reading), row, self.reading) for fields in rows]
        return [
            self._record(common, fields, row, place, number if isinstance(parsed, list) else 0)
            for number, fields in enumerate(rows, 1)
        ]

    def _record(self, common: Fields, fields: Fields, row: Tracked, place: Place, number: int) -> Record:
        fields = {**common, **fields, "extra": row.unused | fields.get("extra", {})}
        record = Record(kind=self.entry.kind, place=place, **fields)
        return replace(record, id=f"{record.id}#{number}") if number else record

    def _grouped(self, records: Sequence[Record], ledger: Ledger) -> list[Record]:
        """One list for each prompt and annotator, in the order of their first rows; a list of one answer is refused."""
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            groups.setdefault((record.group, record.user), []).append(record)
        lists = []
        for group in groups.values():
            answers = {record.candidates[0].content: record.candidates[0] for record in reversed(group)}
            if len(answers) < 2:
                for record in group:
                    ledger.refuse(record.place, Refusal("only one answer to this prompt"))
                continue
            self.joined[group[0].place] = [record.place for record in group]
            lists.append(replace(group[0], candidates=tuple(reversed(answers.values()))))
        return lists

    def _check_scale(self) -> None:
        """Raises DataError where so many judgements are off their scale that the others may mean something else."""
        if self._first_off_scale and self._off_scale > OFF_SCALE * self._rows:
            place, refusal = self._first_off_scale
            raise DataError.at(
                place,
                f"{refusal}, as in {self._off_scale:,} of {self._rows:,} rows: the numbers of this column mean "
                f"something else than in {self.entry.name}",
                hint="convert the column to that scale (docs/data.md), or name the better answer in a column `winner`",
            )

    def _note_unread(self, ledger: Ledger) -> None:
        """Names, once, the columns with text that nothing has read, and those that look like a judgement."""
        names = [name for name, count in self._unread.items() if 2 * count >= self.made]
        if names:
            ledger.note(f"columns with text that are not used: {_quoted(names)}")
        if self.made:
            judged = [name for name in verdict_columns(self.sample, self._read) if name not in self._unread]
            if judged:
                ledger.note(f"columns that look like a judgement are not used: {_quoted(judged)}")


def _single_attributes(
    parsed: Fields | list[Fields], row: Tracked, reading: Reading
) -> Fields | list[Fields]:
    """The fields, a single answer with the attributes that the row lists for it; formats of several answers read
    theirs."""
    if isinstance(parsed, list) or len(parsed.get("candidates", ())) != 1:
        return parsed
    attributes = answer_attributes(row, 1, (), reading)
    return {**parsed, "candidates": with_attributes(parsed["candidates"], attributes)}


def _unexpected(row: Mapping[str, Any], entry: Format, error: Exception) -> Refusal:
    there = [name for names in entry.names() for name in names if name in row]
    shapes = ", ".join(f"{name} is {type(row[name]).__name__}" for name in there)
    return Refusal(f"values that {entry.name} does not have", f"{shapes}: {error}")


def _unread(row: Tracked) -> list[str]:
    """The columns with text that nothing has read, and that says more than the columns which were read."""
    prose = {name: value for name, value in row.unused.items() if is_prose(value)}
    if not prose:
        return []
    known = {text.strip() for name in row.used for text in _texts(row.row[name])}
    return [name for name, value in prose.items() if any(text.strip() not in known for text in _texts(value))]


def _texts(value: Any) -> Iterator[str]:
    """Every string of a value but the names of roles."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in ("role", "from"):
                yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
