"""Reading of preference data in Python: files, the Hugging Face Hub, or rows that are in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec

from equipoise.data.reading import read as files
from equipoise.data.reading.given_rows import DataLike, given_rows, paths_of

Options = ParamSpec("Options")


def _of_rows_too(
    reader: Callable[Concatenate[Any, Options], files.Dataset],
) -> Callable[Concatenate[DataLike, Options], files.Dataset]:
    """The same function, which also takes rows that are in memory."""

    def read(data: DataLike, /, *more: Options.args, **options: Options.kwargs) -> files.Dataset:
        rows = given_rows(data)
        if rows is None:
            return reader(list(paths_of(data)), *more, **options)
        with TemporaryDirectory() as folder:
            path = Path(folder) / rows.name
            path.write_text(rows.text, encoding="utf-8")
            return reader(path, *more, **options)

    read.__doc__ = (reader.__doc__ or "").replace(
        "of its own. A `dataset_info.json`",
        "of its own; or rows in memory: dictionaries, a datasets.Dataset, a DataFrame. A `dataset_info.json`",
    )
    return read


read = _of_rows_too(files.read)
