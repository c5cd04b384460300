"""Files that hold no rows, recognised by their first bytes: each refused with its own reason and what to do."""

from __future__ import annotations

import codecs
import re

from equipoise.data.errors import DataError

_ARCHIVE = "unpack it and name the files in it"
_BINARY = (
    (
        b"PK\x03\x04",
        "a zip archive (or a spreadsheet)",
        "unpack it and name the file in it; save a spreadsheet as CSV",
    ),
    (b"PK\x05\x06", "an empty zip archive", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _ARCHIVE),
    (b"Rar!\x1a\x07", "a RAR archive", _ARCHIVE),
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (b"ORC", "an ORC file", "convert it to Parquet"),
    (b"Obj\x01", "an Avro file", "convert it to Parquet or JSON lines"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV or JSON lines"),
    (b"\x89HDF", "an HDF5 file", "convert it to Parquet or JSON lines"),
    (b"\x93NUMPY", "a NumPy array", "convert it to Parquet or JSON lines"),
    (b"\x80\x02", "a pickle, which is never opened because it can run code", "write it as JSON lines"),
    (b"\x80\x03", "a pickle, which is never opened because it can run code", "write it as JSON lines"),
    (b"\x80\x04", "a pickle, which is never opened because it can run code", "write it as JSON lines"),
    (b"\x80\x05", "a pickle, which is never opened because it can run code", "write it as JSON lines"),
    (b"%PDF", "a PDF", "give a file of rows"),
    (b"\x7fELF", "a program", "give a file of rows"),
)
_UTF = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_TAR = 257  # where a tar archive has its mark
_YAML = re.compile(r"(%YAML|---(\s|$)|- +[\w\"'{\[]|[\w\"' -]{1,80}:(\s|$))")
_NAME = re.compile(r"[^\W\d][\w .:/()\[\]-]{0,99}")


def refuse_binary(head: bytes, file: str, *, inside: str | None = None) -> None:
    """Raises DataError if these first bytes are those of a kind of file that holds no rows of text.

    inside  the compression that the bytes came out of, if any
    """
    within = f", inside {inside}" if inside else ""
    for magic, what, hint in _BINARY:
        if head.startswith(magic):
            raise DataError(f"this is {what}{within}", file=file, hint=hint)
    if head[_TAR : _TAR + 5] == b"ustar":
        raise DataError(f"this is a tar archive{within}", file=file, hint=_ARCHIVE)
    encoding = next((name for mark, name in _UTF if head.startswith(mark)), None) or _without_mark(head)
    if encoding:
        raise DataError(
            f"the text is {encoding}, not UTF-8",
            file=file,
            hint=f"e.g. `iconv -f {encoding} -t UTF-8 FILE > new.jsonl`",
        )


def _without_mark(head: bytes) -> str | None:
    """UTF-16 or UTF-32 of mostly ASCII text, told by where its zero bytes are."""
    if len(head) < 16 or b"\x00" not in head:
        return None
    start = head[: len(head) // 4 * 4]
    zero = [start[i::4].count(0) > 0.9 * len(start[i::4]) for i in range(4)]
    kinds = {(False, True, False, True): "UTF-16LE", (True, False, True, False): "UTF-16BE"}
    kinds |= {(False, True, True, True): "UTF-32LE", (True, True, True, False): "UTF-32BE"}
    return kinds.get((zero[0], zero[1], zero[2], zero[3]))


def refuse_text(start: str, file: str) -> None:
    """Raises DataError for a known text without rows: a pointer, a page, YAML. `start` has its first lines."""
    start = start.lstrip()
    first = start.split("\n", 1)[0].rstrip()
    if start.startswith("version https://git-lfs"):
        raise DataError(
            "this is a git-LFS pointer, not the file it stands for",
            file=file,
            hint="fetch the file: `git lfs pull`",
        )
    if re.match(r"<(!doctype html|html|head|body)\b", start, re.IGNORECASE):
        raise DataError(
            "this is an HTML page, not data",
            file=file,
            hint="was the download a login or error page? fetch the raw file",
        )
    if first.startswith("<"):
        raise DataError("this is XML, not data that can be read", file=file, hint="convert it to JSON lines")
    if _YAML.match(first):
        raise DataError(
            "this looks like YAML, not data that can be read", file=file, hint="convert it to JSON lines"
        )


def is_header(cells: list[str]) -> bool:
    """Whether the cells of a first line can be names of columns: two or more that read like names."""
    names = [cell.strip() for cell in cells]
    return len(names) > 1 and all(_NAME.fullmatch(name) for name in names)
