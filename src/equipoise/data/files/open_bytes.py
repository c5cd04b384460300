"""The bytes of a file, decompressed: regular files only, and no more of them than a bound allows."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from equipoise.data.errors import DataError
from equipoise.data.files.bounds import EXPANDED, EXPANSION, MIB, size

CHUNK = MIB
GZIP, ZSTD, XZ, BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh"
COMPRESSED = {GZIP: "gzip", ZSTD: "zstd", XZ: "xz", BZIP2: "bzip2"}
_NOT_REGULAR = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def damage(file: str) -> Iterator[None]:
    """Turns the errors of reading a damaged or missing file into a DataError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", file=file) from None
    except PermissionError:
        raise DataError("permission denied", file=file, hint="this user may not read the file") from None
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise DataError(f"cannot be read; it may be truncated or damaged: {error}", file=file) from None


def check_regular(path: Path, file: str) -> None:
    """Raises DataError for what is no regular file: a pipe or device may never end."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL in the name
        raise DataError(f"not a file name: {error}", file=file) from None
    what = next((name for test, name in _NOT_REGULAR if test(mode)), None)
    if what:
        raise DataError(
            f"this is {what}, not a regular file",
            file=file,
            hint="write it to a file first, or give `-` to read standard input",
        )


def head_of(path: Path, count: int = 16) -> bytes:
    """The first bytes of the file as they are stored."""
    with path.open("rb") as stream:
        return stream.read(count)


def compression(head: bytes) -> str | None:
    """The name of the compression that a file with these first bytes has, if any."""
    return next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None)


@contextmanager
def opened(path: Path, file: str) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed. Raises DataError once they are many more than the file is long."""
    with path.open("rb") as stream:
        kind = compression(stream.read(8))
        stream.seek(0)
        if kind is None:
            yield stream
        else:
            yield io.BufferedReader(_Expanded(_decompressor(kind, stream), stream, file), CHUNK)


def _decompressor(kind: str, stream: io.BufferedReader) -> IO[bytes]:
    if kind == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if kind == "xz":
        return cast(IO[bytes], lzma.open(stream, "rb"))
    if kind == "bzip2":
        return cast(IO[bytes], bz2.open(stream, "rb"))
    import pyarrow as pa

    return cast(IO[bytes], pa.CompressedInputStream(stream, "zstd"))


class _Expanded(io.RawIOBase):
    """Decompressed bytes, counted against the size of the file that they come from."""

    def __init__(self, inner: IO[bytes], outer: io.BufferedReader, file: str) -> None:
        self.inner, self.file, self.given = inner, file, 0
        self.most = max(EXPANDED, EXPANSION * os.fstat(outer.fileno()).st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.inner.read(len(buffer))
        self.given += len(data)
        if self.given > self.most:
            raise DataError(
                f"expands to more than {size(self.most)}, over {EXPANSION} times its size: read no further",
                file=self.file,
                hint="decompress the file yourself if it is meant to be so large",
            )
        buffer[: len(data)] = data
        return len(data)
