"""Rows of Parquet files and of Arrow's IPC files and streams: whatever is text, number, list or struct.

Other columns (times of any unit and zone, and what Arrow cannot hand over) are legal and no text: they are left out
and named, and refuse nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.files.bounds import ARROW_BATCH, ARROW_ROWS, COLUMNS, DEPTH, MIB, size
from equipoise.data.files.characters import bad_text

BUFFER = MIB  # bytes of a column that are read at a time
PARQUET, IPC_FILE, IPC_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def parquet_rows(path: Path, file: str) -> Iterator[tuple[int, Any]]:
    """(0, row) of a Parquet file. Raises DataError for a damaged one, and for two columns of one name."""
    import pyarrow.parquet as pq

    with _damage("Parquet", file):
        # read in pieces as rows are asked for: by default whole groups, and those that follow, are held in memory
        opened = pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)
        names = readable(opened.schema_arrow, file)
        some = None if len(names) == len(opened.schema_arrow) else names
        batches = opened.iter_batches(batch_size=ARROW_ROWS, columns=some)
        yield from _rows(batches, names, file)


def ipc_rows(path: Path, file: str) -> Iterator[tuple[int, Any]]:
    """(0, row) of an Arrow IPC file or stream."""
    import pyarrow as pa

    with _damage("Arrow", file), pa.OSFile(str(path)) as source:
        if source.read(len(IPC_FILE)) == IPC_FILE:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            batches = iter(reader)
        names = readable(reader.schema, file)
        yield from _rows(batches, names, file)


def unread(path: Path, file: str) -> list[str]:
    """The columns of a Parquet or Arrow file that are left out, each with its type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as stream:
        kind = stream.read(len(IPC_FILE))
    parquet = kind.startswith(PARQUET)
    with _damage("Parquet" if parquet else "Arrow", file):
        if parquet:
            schema = pq.read_schema(path)
        else:
            with pa.OSFile(str(path)) as source:
                schema = (pa.ipc.open_file if kind == IPC_FILE else pa.ipc.open_stream)(source).schema
        return [f"{field.name} ({field.type})" for field in schema if not _is_readable(field.type)]


def readable(schema: Any, file: str) -> list[str]:
    """The columns that hold text, numbers, lists or structs. Raises DataError for two columns of one name."""
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise DataError(
            f"two columns are called {twice[0]!r}", file=file, hint="rename or remove one of them"
        )
    if len(schema.names) > COLUMNS:
        raise DataError(f"more than {COLUMNS:,} columns: {len(schema.names):,}", file=file)
    return [field.name for field in schema if _is_readable(field.type)]


def _is_readable(kind: Any, depth: int = 0) -> bool:
    """Whether values of the type become plain Python values that JSON could hold (or bytes, refused later by name)."""
    import pyarrow.types as t

    if depth > DEPTH:
        return False
    if t.is_nested(kind) or t.is_dictionary(kind):
        names = [field.name for field in kind] if t.is_struct(kind) else []
        return len(set(names)) == len(names) and all(_is_readable(part, depth + 1) for part in _parts(kind))
    known = (t.is_string, t.is_large_string, t.is_binary, t.is_large_binary, t.is_integer, t.is_floating)
    return any(test(kind) for test in (*known, t.is_decimal, t.is_boolean, t.is_null))


def _parts(kind: Any) -> list[Any]:
    """The types inside a nested or dictionary type; a type of an unknown kind is inside itself."""
    import pyarrow.types as t

    if t.is_struct(kind):
        return [field.type for field in kind]
    if t.is_map(kind):
        return [kind.key_type, kind.item_type]
    if t.is_dictionary(kind) or t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return [kind.value_type]
    return [kind]


def _rows(batches: Iterator[Any], names: list[str], file: str) -> Iterator[tuple[int, Any]]:
    count = 0
    for large in batches:
        large.validate(full=True)  # offsets of a damaged file would otherwise be followed outside of it
        for start in range(0, large.num_rows, ARROW_ROWS):
            batch = large.slice(start, ARROW_ROWS)
            if batch.nbytes > ARROW_BATCH:
                raise DataError(f"{batch.num_rows} rows take more than {size(ARROW_BATCH)}", file=file)
            columns = [_column(batch, name, count, file) for name in names]
            count += batch.num_rows
            for values in zip(*columns, strict=True):
                row = dict(zip(names, values, strict=True))
                flaw = next((value for value in values if isinstance(value, Refusal)), None)
                yield 0, flaw or bad_text(row) or row


def _column(batch: Any, name: str, before: int, file: str) -> list[Any]:
    """A column's values. Raises DataError for text that is no UTF-8, with its row."""
    column = batch.column(batch.schema.get_field_index(name))
    try:
        return _values(column)
    except UnicodeDecodeError:
        for row in range(len(column)):
            try:
                column[row].as_py()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"column {name!r} is not valid UTF-8: {error.reason}",
                    file=file,
                    row=before + row + 1,
                    hint="write the file again with UTF-8 text",
                ) from None
        raise


def _values(column: Any) -> list[Any]:
    """The column's values; equal values of a dictionary are one object, however often they occur."""
    import pyarrow as pa

    if isinstance(column, pa.DictionaryArray):
        indices = column.indices.to_pylist()
        known = {i: column.dictionary[i].as_py() for i in set(indices) if i is not None}
        return [known.get(index) for index in indices]
    values = column.to_pylist()
    if pa.types.is_decimal(column.type) or pa.types.is_float16(column.type):
        return [None if value is None else float(value) for value in values]
    return [_mapped(value, column.type) for value in values] if _has_map(column.type) else list(values)


def _has_map(kind: Any, depth: int = 0) -> bool:
    import pyarrow.types as t

    nested = depth <= DEPTH and t.is_nested(kind)
    return t.is_map(kind) or (nested and any(_has_map(part, depth + 1) for part in _parts(kind)))


def _mapped(value: Any, kind: Any) -> Any:
    """The value with its maps, which Arrow gives as lists of pairs, as dicts; a Refusal if a key occurs twice."""
    import pyarrow.types as t

    if value is None or not t.is_nested(kind):
        return value
    if t.is_map(kind):
        made = {key: _mapped(item, kind.item_type) for key, item in value}
        inner: list[Any] = list(made.values())
        if len(made) < len(value):
            return Refusal("a key occurs twice", "in a map")
    elif t.is_struct(kind):
        made = {field.name: _mapped(value[field.name], field.type) for field in kind}
        inner = list(made.values())
    else:
        inner = [_mapped(item, kind.value_type) for item in value]
        return next((item for item in inner if isinstance(item, Refusal)), inner)
    return next((item for item in inner if isinstance(item, Refusal)), made)


@contextmanager
def _damage(kind: str, file: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowInvalid as error:
        raise DataError(f"the {kind} file is damaged: {_first_line(error)}", file=file) from None
    except UnicodeDecodeError as error:  # in the name of a column
        raise DataError(f"the {kind} file is damaged: invalid UTF-8, {error.reason}", file=file) from None
    except (pa.ArrowException, OSError, KeyError, IndexError, OverflowError) as error:
        raise DataError(f"the {kind} file cannot be read: {_first_line(error)}", file=file) from None


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
