"""Rows given as Python objects (a list, a Dataset, a DataFrame) as JSON lines; no library of tables is imported."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from equipoise.data.errors import DataError
from equipoise.data.reading.data_files import SETTINGS, DataFile

# files as `data.read` takes them; or rows: dictionaries in any iterable, such as a list, a datasets.Dataset, a
# pandas.DataFrame, a polars.DataFrame or a pyarrow.Table
DataLike: TypeAlias = "str | Path | Mapping[str, Any] | DataFile | Iterable[Any]"


@dataclass(frozen=True)
class GivenRows:
    """Rows as JSON lines, under a name that says what they hold.

    count   number of rows.      text   the file's content.
    """

    count: int
    text: str

    @property
    def name(self) -> str:
        return f"data-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}.jsonl"


def given_rows(data: Any) -> GivenRows | None:
    """The rows that an object holds; None if it names files.

    Raises DataError for an object that holds no rows, and for a cell that JSON cannot hold, naming row and column.
    """
    if data is None or isinstance(data, str | Path | DataFile) or _names_a_file(data):
        return None
    rows = list(_rows(data))
    if rows and all(isinstance(row, str | Path | DataFile) or _names_a_file(row) for row in rows):
        return None
    if not rows:
        raise DataError(f"the data, of type {type(data).__name__}, hold no rows; give at least one")
    lines = [json.dumps(_row(row, number), ensure_ascii=False) for number, row in enumerate(rows, 1)]
    return GivenRows(len(lines), "".join(f"{line}\n" for line in lines))


def _names_a_file(item: Any) -> bool:
    """Whether a mapping says where a file is, as an entry of data.path does, rather than being a row."""
    return isinstance(item, Mapping) and "path" in item and set(item) <= set(SETTINGS)


def _rows(data: Any) -> Iterable[Any]:
    """Rows of a table by what it can do: its type is not asked, so that no library of tables is imported."""
    if isinstance(data, Mapping):
        splits = ", ".join(repr(name) for name in list(data)[:4])
        raise DataError(
            f"the data are of type {type(data).__name__} with the entries {splits}: give one split, such as "
            "data['train'], or a list of rows"
        )
    for method in ("to_pylist", "to_dicts"):  # pyarrow.Table, polars.DataFrame
        if hasattr(data, method):
            return list(getattr(data, method)())
    if hasattr(data, "to_dict") and hasattr(data, "notna"):  # pandas.DataFrame: what is missing becomes null
        return list(data.astype(object).where(data.notna(), None).to_dict("records"))
    if not isinstance(data, Iterable) or isinstance(data, bytes):
        raise DataError(
            f"the data are of type {type(data).__name__}; give files, or rows: a list of dictionaries, a "
            "datasets.Dataset or a DataFrame"
        )
    return data


def _row(row: Any, number: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise DataError(
            f"row {number} of the data is of type {type(row).__name__}; a row is a dictionary, such as "
            '{"prompt": ..., "chosen": ..., "rejected": ...}'
        )
    made = {}
    for name, value in row.items():
        if not isinstance(name, str):
            raise DataError(f"row {number} of the data has the column {name!r}; a column's name is a text")
        try:
            made[_text(name)] = _plain(value)
        except (TypeError, ValueError) as error:
            raise DataError(f"row {number} of the data, column {name!r}: {error}") from None
        except RecursionError:
            raise DataError(
                f"row {number} of the data, column {name!r}: the value is nested too deeply, or holds itself"
            ) from None
    return made


def _plain(value: Any) -> Any:
    """The value as JSON holds it. Raises TypeError or ValueError for one that JSON cannot hold."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number that a file can hold; give a finite one, or None")
        return float(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a dictionary with keys that are no texts")
        return {_text(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return _plain(value.tolist())
    raise TypeError(
        f"a value of type {type(value).__name__} is no text, number, list or dictionary; convert it first"
    )


def _text(value: str) -> str:
    """The text itself, without the type of a NumPy string. Raises ValueError for one that UTF-8 cannot hold."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(value[error.start]):04X}"
        raise ValueError(f"the text has half of a surrogate pair, {half}, which no file can hold") from None
    return str(value)


def paths_of(data: Any) -> Iterator[str | dict[str, Any]]:
    """Files as the setting data.path holds them."""
    items = [data] if isinstance(data, str | Path | Mapping | DataFile) else data or ()
    for item in items:
        if isinstance(item, DataFile):
            yield {
                name: value
                for name in SETTINGS
                if (value := getattr(item, name)) not in (None, {}) and (name, value) != ("weight", 1.0)
            }
        else:
            yield dict(item) if isinstance(item, Mapping) else str(item)
