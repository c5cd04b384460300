"""Bounds on what a file may ask for: each is far above any data set, and every message about one names it."""

from __future__ import annotations

MIB = 1 << 20
LINE = 64 * MIB  # bytes of one line, and of one row
DEPTH = 100  # lists and objects inside each other
DIGITS = 308  # of one whole number: larger ones are no finite float
COLUMNS = 10_000  # of one row, and different ones in one file
EXPANSION = 200  # times its size that a compressed file may give,
EXPANDED = 256 * MIB  # or so many bytes, whichever is more
STANDARD_INPUT = 4096 * MIB
ARROW_ROWS = 128  # read from an Arrow or Parquet file at a time
ARROW_BATCH = 1024 * MIB  # of so many rows together
FILES = 10_000  # in one folder


def size(count: int) -> str:
    """A number of bytes for people: "64 MiB"."""
    return f"{count // MIB:,} MiB"
