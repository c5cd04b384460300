"""Rows of JSON files: one object a line, one array of objects, or one object whose columns are lists."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files.bounds import LINE, size
from equipoise.data.files.json_values import JsonValues
from equipoise.data.files.open_bytes import CHUNK

BOM = "\ufeff"


def lines(
    stream: io.BufferedReader, file: str, *, blank: bool = False
) -> Iterator[tuple[int, str | Refusal]]:
    """(number, text) of each line, blank ones only on request; a line longer than the bound is a Refusal."""
    offset = number = 0
    while raw := stream.readline(LINE + 1):
        number += 1
        length = len(raw)
        if length > LINE:
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(LINE)
                length += len(raw)
            offset += length
            yield number, Refusal(f"a line is longer than {size(LINE)}", f"{length:,} bytes")
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(file, offset + error.start, number) from None
        offset += length
        text = text.lstrip(BOM)  # also in the middle, where files were joined
        if blank or (text and not text.isspace()):
            yield number, text


def line_rows(stream: io.BufferedReader, file: str) -> Iterator[tuple[int, Any]]:
    """(line, row) of JSON lines. Raises DataError at the first line that is no JSON: none after it can be trusted."""
    values = JsonValues()
    for number, text in lines(stream, file):
        if isinstance(text, Refusal):
            yield number, text
            continue
        try:
            value = values.whole(text)
        except json.JSONDecodeError as error:
            raise _broken_line(file, number, text, error) from None
        yield number, value


def array_rows(stream: io.BufferedReader, file: str) -> Iterator[tuple[int, Any]]:
    """(line, element) of one JSON array, with one element and one chunk in memory at a time."""
    reader = _Text(stream, file)
    values = JsonValues()
    reader.expect("[")
    separator = ""
    while True:
        char = reader.peek()
        if char == "]" and separator != ",":
            reader.expect("]")
            break
        line = reader.line
        yield line, reader.take(values)
        separator = reader.peek()
        if separator == ",":
            reader.expect(",")
        elif separator != "]":
            reader.fail("Expecting ',' or ']' after an element")
    if reader.peek():
        reader.fail("Extra data after the array")


def column_rows(columns: dict[str, list[Any]]) -> Iterator[tuple[int, Any]]:
    """(0, row) of an object of columns, all of one length."""
    for values in zip(*columns.values(), strict=True):
        yield 0, dict(zip(columns, values, strict=True))


def is_columns(value: Any) -> bool:
    """Whether an object holds columns: lists of one length, at least 2, not all of objects, none a conversation."""
    if (
        not isinstance(value, dict)
        or not value
        or not all(isinstance(items, list) for items in value.values())
    ):
        return False
    lengths = {len(items) for items in value.values()}
    objects = all(isinstance(item, dict) for items in value.values() for item in items)
    return len(lengths) == 1 and min(lengths) > 1 and not objects and not any(map(_are_turns, value.values()))


def _are_turns(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and ("role" in item or "from" in item) for item in items)


def inside_of(value: Any) -> str:
    """What to do about a file that is this one object, if its rows are inside it; "" where they are not."""
    if not isinstance(value, dict):
        return ""
    wrapped = [
        name
        for name, items in value.items()
        if isinstance(items, list) and items and all(isinstance(item, dict) for item in items)
    ]
    if wrapped:
        return f"are the rows inside `{wrapped[0]}`? `jq -c '.[\"{wrapped[0]}\"][]' FILE > rows.jsonl` takes them out"
    if len(value) > 1 and all(isinstance(items, dict) for items in value.values()):
        return (
            'are the columns objects, as pandas writes them? use to_json(..., orient="records", lines=True)'
        )
    return ""


class _Text:
    """A window over decoded text that tracks line and column."""

    def __init__(self, stream: io.BufferedReader, file: str) -> None:
        self.stream, self.file = stream, file
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.line, self.column = "", 0, 1, 1
        self.offset, self.ended = 0, False

    def more(self, count: int) -> None:
        raw = self.stream.read(count)
        pending = len(self.decoder.getstate()[0])
        try:
            new = self.decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            raise not_utf8(self.file, self.offset - pending + error.start, None) from None
        new = new.removeprefix(BOM) if self.offset == 0 else new
        self.offset += len(raw)
        self.ended = not raw
        self.text, self.at = self.text[self.at :] + new, 0

    def advance(self, end: int) -> None:
        newlines = self.text.count("\n", self.at, end)
        self.line += newlines
        last = self.text.rfind("\n", self.at, end)
        self.column = end - last if newlines else self.column + end - self.at
        self.at = end

    def peek(self) -> str:
        """The next character that is not whitespace, or "" at the end."""
        while True:
            end = self.at
            while end < len(self.text) and self.text[end].isspace():
                end += 1
            self.advance(end)
            if end < len(self.text) or self.ended:
                return self.text[end : end + 1]
            self.more(CHUNK)

    def expect(self, char: str) -> None:
        if self.peek() != char:
            self.fail(f"Expecting {char!r}")
        self.advance(self.at + 1)

    def take(self, values: JsonValues) -> Any:
        """The value that begins here; reads chunks of doubling size until it is complete."""
        step = CHUNK
        while True:
            try:
                value, end = values.at(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.ended:
                    self.advance(error.pos)
                    self.fail(error.msg)
            else:
                if end < len(self.text) or self.ended:  # a number may go on in the next chunk
                    self.advance(end)
                    return value
            if len(self.text) - self.at > LINE:
                raise DataError(
                    f"an element of the array, or what is no element, is longer than {size(LINE)}",
                    file=self.file,
                    line=self.line,
                    column=self.column,
                )
            self.more(step)
            step *= 2

    def fail(self, reason: str) -> None:
        at_end = self.at >= len(self.text.rstrip()) or reason.startswith("Unterminated")
        cut = self.ended and at_end
        hint = CUT if cut else _cause(self.text[self.at : self.at + 200], reason)
        raise _broken(self.file, self.line, self.column, reason, hint)


CUT = "the file ends in the middle of a row: is it still being written, or was the copy cut?"
_CAUSES = (
    (lambda text, reason: "\x00" in text, "it holds NUL bytes: its writer stopped, or it is no text"),
    (
        lambda text, reason: "control character" in reason,
        "write control characters as escapes (\\t, \\u001b)",
    ),
    (lambda text, reason: text.lstrip()[:2] in ("//", "/*", "# "), "JSON has no comments: remove them"),
    (
        lambda text, reason: text.lstrip()[:2] in ("{'", "['") or text.lstrip().startswith("'"),
        "this is how Python prints a dict: write it with json.dumps",
    ),
)


def _cause(text: str, reason: str) -> str:
    return next(
        (hint for test, hint in _CAUSES if test(text, reason)),
        "fix this line; in JSON lines every row is one whole line",
    )


def _broken_line(file: str, number: int, text: str, error: json.JSONDecodeError) -> DataError:
    at_end = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
    if at_end and not text.endswith("\n"):
        return _broken(file, number, error.pos + 1, error.msg, CUT)
    return _broken(file, number, error.pos + 1, error.msg, _cause(text, error.msg))


def _broken(file: str, line: int, column: int, reason: str, hint: str) -> DataError:
    return DataError(f"broken JSON: {reason}", file=file, line=line, column=column, hint=hint)


def not_utf8(file: str, offset: int, line: int | None) -> DataError:
    """The error of bytes that are no UTF-8."""
    return DataError(
        f"not valid UTF-8 at byte offset {offset}",
        file=file,
        line=line,
        hint="save the file as UTF-8; Latin-1 text of Windows: `iconv -f WINDOWS-1252 -t UTF-8 FILE > new`",
    )
