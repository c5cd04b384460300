"""A user's labelled examples from a file: an npz archive of arrays, or a table with a column `label`.

npz     x [N, F] numbers, y [N] whole labels from 0; typical [N] and test [N] (0 or 1) may be given.
table   CSV, JSON lines, Parquet: one row an example; `label` is a whole number from 0, `typical` and `test` may be
        given, every other column is a feature.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equipoise.data.errors import DataError
from equipoise.data.files.object_rows import Row, read_rows
from equipoise.worlds.labels.examples import Examples, Split

ARRAYS = ("x", "y", "typical", "test")
LABEL, TYPICAL, TEST = "label", "typical", "test"


def read(path: str | Path) -> Examples | Split:
    """The examples of a file; a `Split` where it says which of them are held out.

    Raises DataError with file, row and reason for whatever cannot be used.
    """
    path = Path(path)
    columns = _archive(path) if path.suffix == ".npz" else _table(path)
    file, x, y = str(path), columns["x"], columns["y"]
    _check_numbers(x, file)
    _check_labels(y, file)
    typical = columns.get(TYPICAL)
    examples = Examples(
        x=torch.from_numpy(x.astype(np.float32)),
        y=torch.from_numpy(y.astype(np.int64)),
        classes=int(y.max()) + 1,
        typical=None if typical is None else torch.from_numpy(typical.astype(np.float32)),
    )
    held_out = columns.get(TEST)
    if held_out is None:
        return examples
    _first(~np.isin(held_out, (0, 1)), file, "`test` must be 0 (training) or 1 (held out)")
    if not 0 < held_out.sum() < len(y):
        raise DataError("`test` must be 1 for some examples and 0 for others", file=file)
    held_out = held_out.astype(bool)
    return Split(
        train=examples.take(torch.from_numpy(np.flatnonzero(~held_out))),
        test=examples.take(torch.from_numpy(np.flatnonzero(held_out))),
    )


def _archive(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"not an npz archive of plain arrays: {error}", file=str(path)) from error
    file, unknown = str(path), set(arrays) - set(ARRAYS)
    if unknown or not {"x", "y"} <= set(arrays):
        raise DataError(
            f"an archive holds x and y, and may hold typical and test; found {sorted(arrays)}", file=file
        )
    x, y = arrays["x"], arrays["y"]
    if x.ndim != 2 or y.ndim != 1 or not len(y):
        raise DataError(
            f"x must be [examples, features] and y [examples]: {x.shape} and {y.shape}", file=file
        )
    for name, array in arrays.items():
        if len(array) != len(y) or (name != "x" and array.ndim != 1):
            raise DataError(f"`{name}` has shape {array.shape}, y has {y.shape}", file=file)
        if array.dtype.kind not in "fiub":
            raise DataError(f"`{name}` holds {array.dtype}, not numbers", file=file)
    return arrays


def _table(path: Path) -> dict[str, npt.NDArray[Any]]:
    rows = read_rows(path)
    features = [name for name in rows[0].values if name not in (LABEL, TYPICAL, TEST)]
    if not features:
        raise rows[0].error(f"no feature: a row has a column `{LABEL}` and one number for each feature")
    for row in rows:
        if set(row.values) != set(rows[0].values):
            other = sorted(set(row.values) ^ set(rows[0].values))
            raise row.error(f"its columns are not those of the first row: {', '.join(map(str, other))}")
    columns = {
        "x": np.array([[_number(row, name) for name in features] for row in rows], dtype=np.float64),
        "y": np.array([_number(row, LABEL) for row in rows], dtype=np.float64),
    }
    for name in (TYPICAL, TEST):
        if name in rows[0].values:
            columns[name] = np.array([_number(row, name) for row in rows], dtype=np.float64)
    return columns


def _number(row: Row, name: str) -> float:
    """A cell as a number; a CSV file's cells are texts."""
    value = row.values.get(name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise row.error(f"`{name}` must be a number, and is {value!r}") from None
    return Row(row.file, row.line, row.place, {name: value}).number(name)


def _check_numbers(x: npt.NDArray[Any], file: str) -> None:
    _first(~np.isfinite(x.astype(np.float64)).all(axis=1), file, "a feature is not a finite number")


def _check_labels(y: npt.NDArray[Any], file: str) -> None:
    _first(np.asarray((y < 0) | (y != np.floor(y))), file, "a label must be a whole number from 0")
    missing = sorted(set(range(int(y.max()) + 1)) - set(y.astype(int).tolist()))
    if missing or y.max() < 1:
        raise DataError(
            f"labels must be 0..C-1 with C >= 2 and an example of each; "
            f"{'only 0' if y.max() < 1 else f'none has label {missing[0]}'}",
            file=file,
        )


def _first(bad: Any, file: str, reason: str) -> None:
    if bad.any():
        raise DataError(reason, file=file, row=int(np.flatnonzero(bad)[0]) + 1)
