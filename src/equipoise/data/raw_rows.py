"""Raw rows of all inputs with their columns renamed, as often as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files.bounds import COLUMNS
from equipoise.data.place import Place
from equipoise.data.read_files import Input


class RawRows:
    """The rows of these inputs, at most `limit`; each iteration reads the files again.

    mapping   our column -> theirs
    """

    def __init__(self, inputs: Sequence[Input], mapping: Mapping[str, str], limit: int | None) -> None:
        self.inputs, self.mapping, self.limit = inputs, mapping, limit
        self._ours = {theirs: ours for ours, theirs in mapping.items()}

    def __iter__(self) -> Iterator[tuple[Place, dict[str, Any] | Refusal]]:
        stream = chain.from_iterable(item.rows() for item in self.inputs)
        for place, row in islice(stream, self.limit):
            if isinstance(row, Refusal):
                yield place, row
            elif not isinstance(row, dict):
                yield place, Refusal("row is not an object", type(row).__name__)
            else:
                yield place, self._renamed(row) if self._ours else row

    def objects(self) -> Iterator[dict[str, Any]]:
        """The rows that are objects, for deciding on their format.

        Raises DataError at the end for a mapped column that no row has, and for more columns than any data set has.
        """
        columns: set[str] = set()
        for place, row in self:
            if isinstance(row, Refusal):
                continue
            columns.update(row)
            if len(columns) > COLUMNS:
                raise DataError.at(
                    place,
                    f"the rows have more than {COLUMNS:,} different columns",
                    hint="are keys data here? write them as values",
                )
            yield row
        for ours, theirs in self.mapping.items():
            if columns and ours not in columns:
                raise DataError(f"mapping: no row has the column `{theirs}` (for `{ours}`)")

    def _renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in row.items() if name not in self.mapping or name in self._ours}
        return {self._ours.get(name, name): value for name, value in kept.items()}
