"""Rows of a file as objects, each with its line, and the values of columns checked: for files that are no data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files.kinds import row_file


@dataclass(frozen=True)
class Row:
    """One row of a file: an object, and where it stands: at a line, or in a file without lines (0) by its place."""

    file: str
    line: int
    place: int
    values: Mapping[str, Any]

    def error(self, reason: str) -> DataError:
        """The error that this row cannot be used."""
        return DataError(
            reason, file=self.file, line=self.line or None, row=None if self.line else self.place
        )

    def text(self, name: str) -> str:
        """A column of text. Raises DataError for anything else."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.error(f"`{name}` must be text, and is {shown(value)}")
        return value

    def number(self, name: str) -> float:
        """A column with a finite number. Raises DataError for anything else."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f"`{name}` must be a number, and is {shown(value)}")
        return float(value)

    def name(self, column: str) -> str:
        """A column with an identifier: text or a whole number, as text. Raises DataError for anything else."""
        value = self.values.get(column)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self.error(f"`{column}` must be a name or a number, and is {shown(value)}")
        return str(value)

    def texts(self, name: str) -> list[str]:
        """A column with a list of texts, not empty. Raises DataError for anything else."""
        value = self.values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.error(f"`{name}` must be a list of texts, and is {shown(value)}")
        return value


def shown(value: Any) -> str:
    text = repr(value)
    return "missing" if value is None else text if len(text) <= 60 else text[:57] + "..."


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a JSON, JSON lines, CSV, Parquet or Arrow file. Raises DataError for a row that is no object, and
    for a file without rows."""
    file = str(path)
    rows = []
    for place, (line, values) in enumerate(row_file(Path(path), file).rows(file), start=1):
        row = Row(file, line, place, values if isinstance(values, Mapping) else {})
        if isinstance(values, Refusal):
            raise row.error(str(values))
        if not isinstance(values, Mapping):
            raise row.error(f"a row must be an object, and is {shown(values)}")
        rows.append(row)
    if not rows:
        raise DataError("no rows", file=file)
    return rows
