"""What a row format is: its columns, its parser and the value shapes that mark it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    columns      all must be present
    parse        (row, reading) -> Record fields; raises Refusal for a row it cannot use, and never guesses
    fits         whether one row's values have this format's shapes; null or malformed values fit no format
    without      all must be absent
    """

    name: str
    kind: Kind
    space: Space
    columns: tuple[str, ...]
    parse: Callable[[RawRow, Reading], Fields]
    fits: Callable[[RawRow], bool]
    without: frozenset[str] = frozenset()

    def has_columns(self, columns: frozenset[str]) -> bool:
        """Whether a row with these columns can have this format."""
        return columns.issuperset(self.columns) and self.without.isdisjoint(columns)
