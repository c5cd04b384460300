"""Which kind of file it is, by its content, and its rows: JSON lines, array, columns, CSV, Parquet, Arrow."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files import arrow_rows as arrow
from equipoise.data.files.bounds import LINE, size
from equipoise.data.files.csv_rows import csv_rows, delimiter_of, json_columns
from equipoise.data.files.foreign import refuse_binary, refuse_text
from equipoise.data.files.json_rows import (
    BOM,
    array_rows,
    column_rows,
    inside_of,
    is_columns,
    line_rows,
    lines,
    not_utf8,
)
from equipoise.data.files.json_values import JsonValues
from equipoise.data.files.open_bytes import CHUNK, check_regular, compression, damage, head_of, opened

HEAD = 1 << 16  # bytes that decide what a text is
Rows = Iterator[tuple[int, Any]]


@dataclass(frozen=True)
class RowFile:
    """A file of rows, which can be read any number of times.

    read     yields (line where it begins or 0, row or the Refusal of it)
    by_line  whether a line holds one row
    notes    what the user should know of the file
    doubt    what to do if its rows turn out to have no known format
    """

    read: Callable[[], Rows]
    by_line: bool = True
    notes: tuple[str, ...] = ()
    doubt: str = ""

    def rows(self, file: str) -> Rows:
        """The rows in order. Raises DataError where the file is damaged: nothing after that can be trusted."""
        with damage(file):
            yield from self.read()


def row_file(path: Path, file: str) -> RowFile:
    """The rows of a file; `file` is its name in messages. Raises DataError for one that holds none that can be read."""
    with damage(file):
        check_regular(path, file)
        head = head_of(path)
        if head.startswith((arrow.PARQUET, arrow.IPC_FILE, arrow.IPC_STREAM)):
            return _arrow(path, file, head)
        return _text(path, file, compression(head))


def _arrow(path: Path, file: str, head: bytes) -> RowFile:
    rows = arrow.parquet_rows if head.startswith(arrow.PARQUET) else arrow.ipc_rows
    unread = arrow.unread(path, file)
    notes = (
        (f"{file}: columns of types that hold no text are not read: {', '.join(unread)}",) if unread else ()
    )
    return RowFile(lambda: rows(path, file), by_line=False, notes=notes)


def _text(path: Path, file: str, inside: str | None) -> RowFile:
    with opened(path, file) as stream:
        head = _head(stream)
    if inside and head.startswith((arrow.PARQUET, arrow.IPC_FILE)):
        raise DataError(
            f"an Arrow or Parquet file inside {inside}",
            file=file,
            hint="decompress it: its columns are compressed already",
        )
    if inside and compression(head):
        raise DataError(f"{compression(head)} inside {inside}", file=file, hint="decompress it once")
    refuse_binary(head, file, inside=inside)
    start = _decoded(head, file).lstrip(BOM)
    first = start.lstrip()[:1]
    if first == "[":
        return RowFile(lambda: _streamed(array_rows, path, file), by_line=False)
    if first in ("{", ""):
        only = _one_object(path, file)
        if is_columns(only):
            return RowFile(lambda: column_rows(only), by_line=False)
        return RowFile(lambda: _streamed(line_rows, path, file), doubt=inside_of(only))
    refuse_text(start, file)
    delimiter = delimiter_of(_whole_lines(start, len(head) < HEAD))
    if delimiter is None:
        return RowFile(lambda: _streamed(line_rows, path, file))
    with opened(path, file) as stream:
        parsed = json_columns(stream, file, delimiter)
    name = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}[delimiter]
    return RowFile(
        lambda: _streamed(lambda stream, file: csv_rows(stream, file, delimiter, parsed), path, file),
        notes=(f"{file}: read as {name}-separated values with a header; values are text",),
    )


def _streamed(rows: Callable[[io.BufferedReader, str], Rows], path: Path, file: str) -> Rows:
    with opened(path, file) as stream:
        yield from rows(stream, file)


def _head(stream: io.BufferedReader) -> bytes:
    """The first bytes of the text that are not white space, or as many of them as there are."""
    head = stream.read(HEAD)
    while head.isspace():
        more = stream.read(CHUNK)
        if not more:
            break
        head = more.lstrip()[:HEAD] or b" "
    return head


def _decoded(head: bytes, file: str) -> str:
    """The head as text, up to the first byte that is no UTF-8: the reader finds that place again, with its line."""
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        start = head[: error.start].decode()
        if not start.lstrip(BOM).strip():
            raise not_utf8(file, error.start, None) from None
        return start


def _whole_lines(start: str, ended: bool) -> str:
    """The text without a last line that the head cuts."""
    return start if ended or "\n" not in start else start[: start.rindex("\n") + 1]


def _one_object(path: Path, file: str) -> Any:
    """The object that the whole file is; None if it has more lines. Raises DataError for one over several lines."""
    with opened(path, file) as stream:
        texts = lines(stream, file)
        _, first = next(texts, (0, None))
        if first is None or isinstance(first, Refusal):
            return None
        try:
            value = JsonValues().whole(first)
        except json.JSONDecodeError:
            return _over_lines(first, texts, file) if first.rstrip()[-1] in "{[," else None
        return None if next(texts, None) else value


def _over_lines(first: str, texts: Iterator[tuple[int, Any]], file: str) -> Any:
    """The object over several lines that the file is. Raises DataError for one that holds no columns."""
    whole, length = [first], len(first)
    for _, text in texts:
        if isinstance(text, Refusal) or length > LINE:
            raise DataError(f"one JSON object is longer than {size(LINE)}", file=file, hint=_ONE_LINE)
        whole.append(text)
        length += len(text)
    joined = "".join(whole)
    try:
        value, end = JsonValues().at(joined, len(joined) - len(joined.lstrip()))
    except json.JSONDecodeError:
        return None  # the reader of lines says where it breaks
    if is_columns(value) and not joined[end:].strip():
        return value
    inside = inside_of(value)
    raise DataError(
        "a JSON object goes over several lines",
        file=file,
        line=1,
        hint=f"{_ONE_LINE}; {inside}" if inside else _ONE_LINE,
    )


_ONE_LINE = "write every row on one line, e.g. with `jq -c . FILE > rows.jsonl`"
