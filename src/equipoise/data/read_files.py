"""Reads raw rows from JSON lines, JSON arrays and Parquet files, plain or compressed."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError
from equipoise.data.place import Source

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
CHUNK = 1 << 20


def sources(files: Sequence[str | Path]) -> list[Source]:
    """The files as sources of rows, in order: a file that is listed twice, or by two names, is two of them."""
    taken: set[str] = set()
    found = []
    for number, file in enumerate(files):
        label = name = Path(file).name
        count = 1
        while label in taken:
            count += 1
            label = f"{name} ({count})"
        taken.add(label)
        found.append(Source(str(file), number, label=label, by_line=_by_line(file)))
    return found


def listed_again(sources: Sequence[Source]) -> list[tuple[Source, Source]]:
    """(source, an earlier one) where both are the same file, by one name or two."""
    first: dict[str, Source] = {}
    earlier = [(source, first.setdefault(str(Path(source.file).resolve()), source)) for source in sources]
    return [(source, before) for source, before in earlier if before is not source]


def _by_line(path: str | Path) -> bool:
    """Whether each line of the file is a row."""
    if not Path(path).is_file():
        return True
    try:
        with Path(path).open("rb") as stream:
            if stream.read(4) == PARQUET:
                return False
            stream.seek(0)
            return _first(_decompressed(stream)) != b"["
    except (EOFError, zlib.error, OSError):
        return True


def rows_of(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Streams (line, row) of one file; `line`, from 1, is where the row begins (in Parquet: its number).

    The content, not the name, decides how the file is read. Raises DataError for a missing or damaged file,
    invalid UTF-8 (with byte offset) and broken JSON (with line and column): nothing after it can be trusted.
    """
    file = str(path)
    if Path(path).is_dir():
        raise DataError("this is a folder", file=file, hint="name the files in it")
    try:
        with Path(path).open("rb") as stream:
            if stream.read(4) == PARQUET:
                yield from _parquet(file)
                return
            stream.seek(0)
            yield from _json(_decompressed(stream), file)
    except FileNotFoundError:
        raise DataError("no such file", file=file) from None
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"cannot be read; it may be truncated or damaged: {error}", file=file) from None


def _decompressed(stream: io.BufferedReader) -> io.BufferedReader:
    magic = stream.read(4)
    stream.seek(0)
    if magic.startswith(GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=stream))
    if magic == ZSTD:
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(stream, "zstd"))
    return stream


def _parquet(file: str) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        line = 0
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                line += 1
                yield line, row
    except pa.ArrowException as error:
        raise DataError(f"the Parquet file is damaged: {error}", file=file) from None


def _json(stream: io.BufferedReader, file: str) -> Iterator[tuple[int, Any]]:
    """JSON lines or one JSON array: the first character decides."""
    yield from (_array if _first(stream) == b"[" else _lines)(stream, file)


def _first(stream: io.BufferedReader) -> bytes:
    return stream.peek(64).removeprefix(codecs.BOM_UTF8).lstrip()[:1]


def _lines(stream: io.BufferedReader, file: str) -> Iterator[tuple[int, Any]]:
    offset = 0
    for number, raw in enumerate(stream, 1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(file, offset + error.start, number) from None
        offset += len(raw)
        text = text.removeprefix("\ufeff") if number == 1 else text
        if not text.strip():
            continue
        try:
            yield number, json.loads(text)
        except json.JSONDecodeError as error:
            at_end = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
            cut = at_end and not raw.endswith(b"\n")
            raise _broken(file, number, error.pos + 1, error.msg, cut=cut) from None


def _array(stream: io.BufferedReader, file: str) -> Iterator[tuple[int, Any]]:
    """The elements of one JSON array, with one element and one chunk in memory at a time."""
    reader = _Text(stream, file)
    scan = json.JSONDecoder().raw_decode
    reader.expect("[")
    separator = ""
    while True:
        char = reader.peek()
        if char == "]" and separator != ",":
            reader.expect("]")
            break
        line = reader.line
        yield line, reader.take(scan)
        separator = reader.peek()
        if separator == ",":
            reader.expect(",")
        elif separator != "]":
            reader.fail("Expecting ',' or ']' after an element")
    if reader.peek():
        reader.fail("Extra data after the array")


class _Text:
    """A window over decoded text that tracks line and column."""

    def __init__(self, stream: io.BufferedReader, file: str) -> None:
        self.stream, self.file = stream, file
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.line, self.column = "", 0, 1, 1
        self.offset, self.ended = 0, False

    def more(self, size: int) -> None:
        raw = self.stream.read(size)
        pending = len(self.decoder.getstate()[0])
        try:
            new = self.decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            raise _not_utf8(self.file, self.offset - pending + error.start, None) from None
        new = new.removeprefix("\ufeff") if self.offset == 0 else new
        self.offset += len(raw)
        self.ended = not raw
        self.text, self.at = self.text[self.at :] + new, 0

    def advance(self, end: int) -> None:
        passed = self.text[self.at : end]
        newlines = passed.count("\n")
        self.line += newlines
        self.column = len(passed) - passed.rfind("\n") if newlines else self.column + len(passed)
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

    def take(self, scan: Any) -> Any:
        """The value that begins here; reads chunks of doubling size until it is complete."""
        size = CHUNK
        while True:
            try:
                value, end = scan(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.ended:
                    self.advance(error.pos)
                    self.fail(error.msg)
            else:
                self.advance(end)
                return value
            self.more(size)
            size *= 2

    def fail(self, reason: str) -> None:
        at_end = self.at >= len(self.text.rstrip()) or reason.startswith("Unterminated")
        raise _broken(self.file, self.line, self.column, reason, cut=self.ended and at_end)


def _broken(file: str, line: int, column: int, reason: str, *, cut: bool) -> DataError:
    hint = (
        "the file ends in the middle of a row: is it still being written, or was the copy cut?"
        if cut
        else "fix this line; in JSON lines every row is one whole line"
    )
    return DataError(f"broken JSON: {reason}", file=file, line=line, column=column, hint=hint)


def _not_utf8(file: str, offset: int, line: int | None) -> DataError:
    return DataError(
        f"not valid UTF-8 at byte offset {offset}", file=file, line=line, hint="save the file as UTF-8"
    )
