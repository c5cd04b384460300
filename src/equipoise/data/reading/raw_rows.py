"""Raw rows of one data file (or folder) with its columns renamed, as often as they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, count
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files.bounds import COLUMNS
from equipoise.data.place import Place
from equipoise.data.reading.data_files import DataFile
from equipoise.data.reading.mapped import renamed, unpacked
from equipoise.data.reading.read_files import Input


class RawRows:
    """The rows of one data file, at most `limit`; each iteration reads its inputs again.

    kept    numbers, from 0, of the rows that are read; None: all of them
    """

    def __init__(self, inputs: Sequence[Input], file: DataFile, limit: int | None) -> None:
        self.inputs, self.file, self.limit = inputs, file, limit
        self.kept: Collection[int] | None = None

    def __iter__(self) -> Iterator[tuple[Place, dict[str, Any] | Refusal]]:
        stream = chain.from_iterable(item.rows() for item in self.inputs)
        numbers = count() if self.limit is None else range(self.limit)  # first, so that no row more is read
        for number, (place, row) in zip(numbers, stream, strict=False):
            if self.kept is not None and number not in self.kept:
                continue
            if isinstance(row, Refusal):
                yield place, row
            elif not isinstance(row, dict):
                yield place, Refusal("row is not an object", type(row).__name__)
            else:
                yield place, self._unpacked(row)

    def _unpacked(self, row: dict[str, Any]) -> dict[str, Any] | Refusal:
        try:
            return unpacked(renamed(row, self.file))
        except Refusal as refusal:
            return refusal

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
        for ours, theirs in self.file.mapping.items():
            if columns and ours not in columns:
                raise DataError(
                    f"mapping: no row has the column `{theirs}` (for `{ours}`)", file=self.file.path
                )

    def refuse_all(self) -> Iterator[tuple[Place, Refusal]]:
        """The rows that are no objects, with the reason."""
        return ((place, row) for place, row in self if isinstance(row, Refusal))
