"""First rows of a remote file, copied without the rest: of Parquet files and of JSON lines, read in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.data.files.arrow_rows import BUFFER, PARQUET
from equipoise.data.files.bounds import ARROW_ROWS, LINE

LINES = (".jsonl", ".ndjson")


def copy_rows(filesystem: Any, remote: str, local: Path, most: int) -> int | None:
    """Copies at most so many rows of a file of an fsspec file system; their number, or None: it must be copied whole.

    A file that cannot be read in pieces (another kind, damaged, a line beyond its bound) is copied whole, so that its
    reader says what is wrong with it.
    """
    import pyarrow as pa

    with filesystem.open(remote, "rb") as stream:
        parquet = stream.read(len(PARQUET)) == PARQUET
        stream.seek(0)
        try:
            if parquet:
                return _parquet(stream, local, most)
            if remote.endswith(LINES):
                return _lines(stream, local, most)
        except (pa.ArrowException, EOFError, ValueError):
            pass  # below: whole
    return None


def _parquet(stream: Any, local: Path, most: int) -> int:
    import pyarrow.parquet as pq

    source = pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER)
    count = 0
    with pq.ParquetWriter(local, source.schema_arrow) as writer:
        for batch in source.iter_batches(batch_size=min(most, ARROW_ROWS)):
            kept = batch.slice(0, min(most - count, batch.num_rows))
            writer.write_batch(kept)
            count += kept.num_rows
            if count == most:
                break
    return count


def _lines(stream: Any, local: Path, most: int) -> int | None:
    count = 0
    with local.open("wb") as file:
        while count < most and (line := stream.readline(LINE + 1)):
            if len(line) > LINE:
                return None
            file.write(line)
            count += bool(line.strip())
    return count
