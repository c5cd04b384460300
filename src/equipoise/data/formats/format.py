"""What a row format is: its columns, its parser and the value shapes that mark it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.data.formats.parse_values import Reading
from equipoise.data.records import Kind, Space

RawRow = Mapping[str, Any]
Fields = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """One row format.

    kind, space  of the records it gives
    columns      all must be present; "a|b" is either name
    parse        (row, reading) -> Record fields, or a list of them; raises Refusal for a row it cannot use
    fits         whether one row's values have this format's shapes; null or malformed values fit no format
    without      all must be absent
    grouped      the answers of all rows with the same prompt form one list
    by_name      never detected, because another format has the same columns: only `format:` chooses it
    cuts_prompt  the prompt is cut out of what both answers begin with
    note         what the reader decides where the columns leave a choice; said once
    """

    name: str
    kind: Kind
    space: Space
    columns: tuple[str, ...]
    parse: Callable[[RawRow, Reading], Fields | list[Fields]]
    fits: Callable[[RawRow], bool]
    without: frozenset[str] = frozenset()
    grouped: bool = False
    by_name: bool = False
    cuts_prompt: bool = False
    note: str = ""

    def has_columns(self, columns: frozenset[str]) -> bool:
        """Whether a row with these columns can have this format."""
        return not self.missing(columns) and self.without.isdisjoint(columns)

    def missing(self, columns: frozenset[str]) -> list[str]:
        """The columns that are not there, each under its first name."""
        return [names[0] for names in self.names() if columns.isdisjoint(names)]

    def names(self) -> list[list[str]]:
        """The names that each column may have."""
        return [column.split("|") for column in self.columns]

    def own(self, columns: frozenset[str]) -> frozenset[str]:
        """Those of the columns that this format reads."""
        return frozenset(name for names in self.names() for name in names if name in columns)


class Tracked(Mapping[str, Any]):
    """A row that remembers which of its columns were read: what no parser read is unused."""

    def __init__(self, row: RawRow) -> None:
        self.row = row
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self.row[name]
        self.used.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self.row

    def __iter__(self) -> Iterator[str]:
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def unused(self) -> dict[str, Any]:
        """The columns that nothing read, with their values."""
        return {name: value for name, value in self.row.items() if name not in self.used}


def peeked(row: RawRow, name: str) -> Any:
    """A column's value without reading it: it stays among the unused ones. None if there is none."""
    return (row.row if isinstance(row, Tracked) else row).get(name)
