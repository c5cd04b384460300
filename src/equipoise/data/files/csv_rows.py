"""Rows of comma-, semicolon- or tab-separated values with a header; values stay strings.

A column whose every filled cell is a JSON list or object is read as such (messages, tools).
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files.bounds import COLUMNS, LINE, size
from equipoise.data.files.characters import bad_text
from equipoise.data.files.foreign import is_header
from equipoise.data.files.json_rows import lines
from equipoise.data.files.json_values import JsonValues

DELIMITERS = ",;\t|"


def delimiter_of(text: str) -> str | None:
    """The delimiter of a file that begins with this text, or None if its first line is no header.

    Of the delimiters that make names of columns, the one by which most of the following rows have as many cells.
    """
    best: tuple[int, int] = (0, 0)
    chosen = None
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
        except csv.Error:
            continue
        if not rows or not is_header(rows[0]):
            continue
        fitting = sum(len(row) == len(rows[0]) for row in rows[1:])
        if (fitting, len(rows[0])) > best and (fitting or len(rows) == 1):
            best, chosen = (fitting, len(rows[0])), delimiter
    return chosen


def csv_rows(
    stream: io.BufferedReader, file: str, delimiter: str, parsed: frozenset[str]
) -> Iterator[tuple[int, Any]]:
    """(line, row) of each row, a dict of strings; the columns of `parsed` are JSON.

    A row with another number of cells than the header is a Refusal. Raises DataError for a header that names a
    column twice, and for a quote that is not closed: nothing after it can be trusted.
    """
    cells = _cells(stream, file, delimiter)
    _, header = next(cells, (0, []))
    names = [name.strip() for name in header]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or len(names) > COLUMNS:
        why = f"the column {twice[0]!r} occurs twice" if twice else f"more than {COLUMNS:,} columns"
        raise DataError(f"{why} in the header", file=file, line=1, hint="rename or remove it")
    values = JsonValues()
    for line, row in cells:
        if len(row) != len(names):
            yield line, Refusal("not as many cells as the header has", f"{len(row)} of {len(names)}")
            continue
        cells_of = dict(zip(names, row, strict=True))
        yield line, bad_text(cells_of) or _with_json(cells_of, parsed, values)


def json_columns(stream: io.BufferedReader, file: str, delimiter: str) -> frozenset[str]:
    """The columns whose filled cells are all JSON lists or objects, from the whole file."""
    candidates: dict[str, int] = {}
    for _, row in csv_rows(stream, file, delimiter, frozenset()):
        if isinstance(row, Refusal):
            continue
        if not candidates:
            candidates = dict.fromkeys(row, 0)
        for name in list(candidates):
            cell = row[name].strip()
            if cell and not _is_json(cell):
                del candidates[name]
            elif cell:
                candidates[name] += 1
        if not candidates:
            return frozenset()
    return frozenset(name for name, count in candidates.items() if count)


def _is_json(cell: str) -> bool:
    if cell[0] not in "[{" or cell[-1] not in "]}":
        return False
    try:
        JsonValues().whole(cell)
    except json.JSONDecodeError:
        return False
    return True


def _with_json(row: dict[str, str], parsed: frozenset[str], values: JsonValues) -> dict[str, Any] | Refusal:
    made: dict[str, Any] = dict(row)
    for name in parsed:
        cell = row[name].strip()
        made[name] = values.whole(cell) if cell else None
        if isinstance(made[name], Refusal):
            return made[name]
    return made


def _cells(stream: io.BufferedReader, file: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, cells) of each row that is not blank."""
    csv.field_size_limit(LINE)  # the module's own bound is 128 KiB, for the whole process
    reader = csv.reader(_raw_lines(stream, file), delimiter=delimiter, strict=True)
    begins = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            at_end = "unexpected end" in str(error)
            raise DataError(
                f"broken CSV: {error}" if not at_end else "broken CSV: a quote is never closed",
                file=file,
                line=begins,
                hint=f"quote cells that hold quotes or newlines, doubling each quote; a cell has at most {size(LINE)}",
            ) from None
        if row is None:
            return
        line, begins = begins, reader.line_num + 1
        if any(cell.strip() for cell in row):
            yield line, row


def _raw_lines(stream: io.BufferedReader, file: str) -> Iterable[str]:
    """Every line with its end, blank ones too, because a quoted cell may hold them."""
    for number, text in lines(stream, file, blank=True):
        if isinstance(text, Refusal):
            raise DataError(str(text), file=file, line=number)
        yield text
