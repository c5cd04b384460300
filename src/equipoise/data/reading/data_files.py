"""Data files: each one with the format, mapping, weight and limit of its own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from equipoise.data.errors import DataError

Row = TypeVar("Row")
REPEATS = 1000  # times that one row may be read
SHARES = (
    1e-9,
    1e9,
)  # least and most of a share, so that no ratio of two leaves the numbers that a float holds


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file, and how it is read.

    path      the file
    format    a format's name; "auto": decided from the columns of its rows
    mapping   our column -> theirs; `a.b` and `a.0` reach into objects and lists
    weight    share of the rows that is read: 0.5 takes half of them, 2 takes each twice
    share     of the mixture that is drawn from this file, in proportion to the other files' shares; None: every row
    limit     most rows to read
    split     of a data set that comes in several: the part to read
    only      columns that count; the others are kept unused. None: all
    tags      names of the turns' keys and roles, where a data set has its own
    """

    path: str
    format: str = "auto"
    mapping: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    share: float | None = None
    limit: int | None = None
    split: str | None = None
    only: frozenset[str] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, kinds, what in (
            ("format", self.format, str, "a format's name"),
            ("mapping", self.mapping, Mapping, "{ours: yours}"),
            ("weight", self.weight, int | float, "a number above 0"),
            ("share", self.share, int | float | None, "a number above 0"),
            ("limit", self.limit, int | None, "a whole number above 0"),
            ("split", self.split, str | None, "a name"),
        ):
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise DataError(f"`{name}` must be {what}, got {value!r}", file=self.path)
        for name, number in (("weight", self.weight), ("share", self.share), ("limit", self.limit)):
            if number is not None and not 0 < number < math.inf:
                raise DataError(f"`{name}` must be above 0, got {number!r}", file=self.path)
        if self.weight > REPEATS:
            raise DataError(
                f"`weight` repeats a row at most {REPEATS:,} times, got {self.weight!r}", file=self.path
            )
        if self.share is not None and not SHARES[0] <= self.share <= SHARES[1]:
            low, high = SHARES
            raise DataError(f"`share` must lie between {low:g} and {high:g}", file=self.path)
        if self.share is not None and self.weight != 1:
            raise DataError(
                "`share` and `weight` both say how much of the file is read",
                file=self.path,
                hint="give `share` (of the mixture) or `weight` (of the file's own rows)",
            )

    @property
    def place(self) -> str:
        """The path with its split, as `read_files.inputs_of` takes it."""
        return self.path if self.split is None else f"{self.path}:{self.split}"


SETTINGS = (
    "path",
    "format",
    "mapping",
    "weight",
    "share",
    "limit",
    "split",
)  # what a configuration may say of a file

PathLike: TypeAlias = str | Path | Mapping[str, Any] | DataFile


def data_file(item: PathLike, **defaults: Any) -> DataFile:
    """A path, or a mapping with `path` and perhaps others of `SETTINGS`, as a DataFile.

    Raises DataError for an unknown name and for a mapping without `path`.
    """
    if isinstance(item, DataFile):
        return item
    if not isinstance(item, str | Path | Mapping):
        raise DataError(f"a data file is a path or a mapping with `path`, got {item!r}")
    if not isinstance(item, Mapping):
        return DataFile(path=str(item), **defaults)
    given = {name: value for name, value in item.items() if value is not None}
    unknown = next((name for name in given if name not in SETTINGS), None)
    if unknown is not None:
        near = get_close_matches(str(unknown), SETTINGS, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"a file takes {', '.join(SETTINGS)}"
        raise DataError(f"unknown setting `{unknown}` of a data file", hint=hint)
    if "path" not in given:
        raise DataError("a data file without `path`", hint="write `- path: FILE`")
    return DataFile(**{**defaults, **given, "path": str(given["path"])})


def sampled(rows: Sequence[Row], keys: Sequence[str], share: float, seed: int) -> list[Row]:
    """A share of the rows, in their order: exactly round(share n), and the same whatever their order is.

    keys    of each row; rows are ranked by a hash of seed and key
    share   in [0, 1]
    """
    return drawn(rows, keys, round(share * len(rows)), seed)


def drawn(rows: Sequence[Row], keys: Sequence[str], count: int, seed: int) -> list[Row]:
    """`count` of the rows without replacement, in their order; keys and seed as in `sampled`."""
    ranks = [hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in keys]
    order = sorted(range(len(rows)), key=lambda i: ranks[i])
    return [rows[i] for i in sorted(order[:count])]
