"""Raw rows of one format to records: parsing, chat turns, duplicates, and what was not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.answer_like import is_prose, verdict_columns
from equipoise.data.formats.format import Fields, Format, Tracked
from equipoise.data.formats.in_chat import as_chat, has_system, with_system
from equipoise.data.formats.parse_values import Reading, common_of
from equipoise.data.ledger import Ledger, Place
from equipoise.data.records import Record, Space

Rows = Sequence[tuple[Place, Mapping[str, Any]]]


def space_of(rows: Rows, entry: Format, reading: Reading) -> Space:
    """The space of the records: chat where the settings or a system prompt wrap strings as turns."""
    system = reading.system or has_system([row for _, row in rows])
    return "chat" if reading.wrap or system else entry.space


def records_of(
    rows: Rows, entry: Format, space: Space, reading: Reading, ledger: Ledger, seen: dict[str, Place]
) -> list[Record]:
    """The records of these rows, each row entered in the ledger as used, refused or a duplicate.

    A row may give several records, which are numbered; those of a grouped format then form one list for each prompt.

    seen    identity -> place of the records so far; those of other files are duplicates too
    """
    reading = replace(reading, wrap=space == "chat")  # the counts of notes and repairs stay shared
    records: list[Record] = []
    unread: Counter[str] = Counter()
    read: set[str] = set()
    for place, row in rows:
        tracked = Tracked(row)
        try:
            made = _made(tracked, entry, space, reading, place)
        except Refusal as refusal:
            ledger.refuse(place, refusal)
            continue
        unread.update(_unread(tracked))
        read |= tracked.used
        firsts = [seen.setdefault(record.identity(), place) for record in made]
        new = [record for record, first in zip(made, firsts, strict=True) if first is place]
        if new:
            ledger.use(place)
            records += new
        else:
            ledger.repeat(place, firsts[0])
    _note_unread(unread, len(records), ledger)
    judged = (
        verdict_columns([row for _, row in rows], read) if entry.kind in ("prompt", "demonstration") else []
    )
    if records and judged:
        ledger.note(f"columns that look like a judgement are not used: {_quoted(judged)}")
    return _grouped(records, ledger) if entry.grouped else records


def _made(row: Tracked, entry: Format, space: Space, reading: Reading, place: Place) -> list[Record]:
    missing = entry.missing(frozenset(row))
    if missing:
        raise Refusal(f"no column `{missing[0]}`")
    common = common_of(row, reading)
    parsed = entry.parse(row, reading)
    rows = parsed if isinstance(parsed, list) else [parsed]
    if space == "chat":
        rows = [with_system(as_chat(fields, reading), row, reading) for fields in rows]
    return [
        _record(common, fields, entry, row, place, number if isinstance(parsed, list) else 0)
        for number, fields in enumerate(rows, 1)
    ]


def _record(common: Fields, fields: Fields, entry: Format, row: Tracked, place: Place, number: int) -> Record:
    fields = {**common, **fields, "extra": row.unused | fields.get("extra", {})}
    record = Record(kind=entry.kind, file=place[0], line=place[1], **fields)
    return replace(record, id=f"{record.id}#{number}") if number else record


def _grouped(records: Sequence[Record], ledger: Ledger) -> list[Record]:
    """One list for each prompt, in the order of their first rows; rows whose prompt has one answer are refused."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    lists = []
    for group in groups.values():
        answers = {record.candidates[0].content: record.candidates[0] for record in reversed(group)}
        if len(answers) < 2:
            for record in group:
                ledger.refuse((record.file, record.line), Refusal("only one answer to this prompt"))
            continue
        lists.append(replace(group[0], candidates=tuple(reversed(answers.values()))))
    return lists


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


def _note_unread(unread: Counter[str], rows: int, ledger: Ledger) -> None:
    """Names, once, the columns with text that nothing has read."""
    names = [name for name, count in unread.items() if 2 * count >= rows]
    if names:
        ledger.note(f"columns with text that are not used: {_quoted(names)}")


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
