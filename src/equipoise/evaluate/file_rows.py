"""Rows of an evaluation file, each with its line, and the values of their columns checked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files.kinds import row_file
from equipoise.policy.files import whole


@dataclass(frozen=True)
class Row:
    """One row of a file: an object, and where it stands."""

    file: str
    line: int
    values: Mapping[str, Any]

    def error(self, reason: str) -> DataError:
        """The error that this row cannot be used."""
        return DataError(reason, file=self.file, line=self.line or None)

    def text(self, name: str) -> str:
        """A column of text. Raises DataError for anything else."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.error(f"`{name}` must be text, and is {_shown(value)}")
        return value

    def number(self, name: str) -> float:
        """A column with a finite number. Raises DataError for anything else."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f"`{name}` must be a number, and is {_shown(value)}")
        return float(value)

    def name(self, column: str) -> str:
        """A column with an identifier: text or a whole number, as text. Raises DataError for anything else."""
        value = self.values.get(column)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self.error(f"`{column}` must be a name or a number, and is {_shown(value)}")
        return str(value)

    def texts(self, name: str) -> list[str]:
        """A column with a list of texts, not empty. Raises DataError for anything else."""
        value = self.values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.error(f"`{name}` must be a list of texts, and is {_shown(value)}")
        return value


def _shown(value: Any) -> str:
    text = repr(value)
    return "missing" if value is None else text if len(text) <= 60 else text[:57] + "..."


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a JSON, JSON lines, CSV, Parquet or Arrow file. Raises DataError for a row that is no object, and
    for a file without rows."""
    file = str(path)
    rows = []
    for line, values in row_file(Path(path), file).rows(file):
        if isinstance(values, Refusal):
            raise DataError(str(values), file=file, line=line or None)
        if not isinstance(values, Mapping):
            raise DataError(f"a row must be an object, and is {_shown(values)}", file=file, line=line or None)
        rows.append(Row(file, line, values))
    if not rows:
        raise DataError("no rows", file=file)
    return rows


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON lines, whole or not at all."""
    with whole(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(
            json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n" for row in rows
        )
    return path


def write_array(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a JSON array of objects, whole or not at all."""
    text = json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n"
    with whole(path) as draft:
        draft.write_bytes(text.encode("utf-8", "replace"))
    return path
