"""Row identity: which row of which file of the list a record came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Source:
    """One file, as it stands in the list of files that are read together; listed twice, it is two sources.

    file     its path as messages name it
    number   from 0, different for every source of a reading
    listed   what the user gave: the file itself, or the folder or data set that holds it
    label    short name, different for every source of a reading
    by_line  whether a line holds one row, so that its number names the row (JSON lines do, an array does not)
    """

    file: str
    number: int = 0
    listed: str = ""
    label: str = ""
    by_line: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "listed", self.listed or self.file)
        object.__setattr__(self, "label", self.label or PurePath(self.file).name)


class Place(NamedTuple):
    """A row's identity: its source and its number in it, from 1; `line` is where it begins, 0 if there are no lines."""

    source: Source
    row: int
    line: int = 0

    @property
    def file(self) -> str:
        """The path of the row's file."""
        return self.source.file

    @property
    def id(self) -> str:
        """A name that no other row of the reading has."""
        return f"{self.source.label}:{self.number}"

    @property
    def short(self) -> str:
        """The file's short name and where the row stands in it, for messages that list rows."""
        return self._at(self.source.label)

    def __str__(self) -> str:
        return self._at(self.source.file)

    @property
    def number(self) -> int:
        """The number by which messages name the row: its line's where a line is a row, else its own."""
        return self.line if self.source.by_line and self.line else self.row

    def _at(self, name: str) -> str:
        if self.source.by_line and self.line:
            return f"{name}:{self.line}"
        return f"{name}: row {self.row}" + (f" (line {self.line})" if self.line else "")


def place_of(file: str, line: int, *, number: int = 0) -> Place:
    """The place of a row that is one line of a file: row and line have the same number."""
    return Place(Source(file, number), line, line)


NOWHERE = Place(Source(""), 0)  # of a record that was not read from a file
