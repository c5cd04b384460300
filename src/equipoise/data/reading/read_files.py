"""Raw rows of files, folders, data sets of the Hub and standard input, each row with its place."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from equipoise.data.errors import DataError
from equipoise.data.files import folders, hub
from equipoise.data.files.bounds import STANDARD_INPUT, size
from equipoise.data.files.kinds import RowFile, row_file
from equipoise.data.files.open_bytes import CHUNK, damage
from equipoise.data.place import Place, Source

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One file of the reading: its source, and its rows, which can be read any number of times.

    path    where the bytes are               keep  what must live as long as the file is read (a temporary folder)
    listed  number, from 0, of the path in the list which stands for it
    """

    source: Source
    file: RowFile
    path: Path
    keep: Any = None
    listed: int = 0

    def rows(self) -> Iterator[tuple[Place, Any]]:
        """(place, row or the Refusal of it), in order. Raises DataError where the file is damaged."""
        source = self.source
        for number, (line, row) in enumerate(self.file.rows(source.file), 1):
            yield Place(source, number, line), row


def inputs_of(paths: Sequence[str | Path], most: Sequence[int | None] = ()) -> list[Input]:
    """The files that these paths stand for, in order.

    A path is a file, a folder (of shards of one split, or a saved data set; `folder:split` chooses one), `hf://owner/name`
    of the Hugging Face Hub, or "-" for standard input. A file listed twice, or by two names, is two inputs.

    most    of each path, the rows that are read of it: no more are fetched from the Hub; none: all

    Raises DataError for a path that is none of these, and for a file that holds no rows that can be read.
    """
    if [str(path) for path in paths].count(STDIN) > 1:
        raise DataError("standard input can be read once only", file=STDIN)
    inputs: list[Input] = []
    labels: set[str] = set()
    for number, path in enumerate(paths):
        for file, local, keep in _files(str(path), most[number] if most else None):
            found = row_file(local, file)
            source = Source(
                file, len(inputs), listed=str(path), label=_label(file, labels), by_line=found.by_line
            )
            inputs.append(Input(source, found, local, keep, number))
    return inputs


def listed_again(inputs: Sequence[Input]) -> list[tuple[Input, Input]]:
    """(input, an earlier one) where both are the same file, by one name or two."""
    first: dict[Path, Input] = {}
    earlier = [(item, first.setdefault(item.path.resolve(), item)) for item in inputs]
    return [(item, before) for item, before in earlier if before is not item]


def rows_of(path: str | Path) -> Iterator[tuple[int, Any]]:
    """(line, row) of one file; `line`, from 1, is where the row begins, 0 in a file without lines.

    The content, not the name, decides how the file is read. A row that is damaged alone is a Refusal. Raises DataError
    for a missing or damaged file, invalid UTF-8 (with byte offset) and broken JSON (with line and column).
    """
    for item in inputs_of([path]):
        for place, row in item.rows():
            yield place.line, row


def _files(path: str, most: int | None) -> Iterator[tuple[str, Path, Any]]:
    """(name in messages, local path, what keeps it alive) of every file that one listed path stands for."""
    if not path.strip():
        raise DataError("a file without a name", hint="name a file, a folder, or `.` for this folder")
    if path == STDIN:
        keep = _Temporary()
        local = keep.folder / "standard-input"
        if sys.stdin is None:
            raise DataError("standard input is closed", hint="name a file")
        _copy(sys.stdin.buffer, local)
        yield "standard input", local, keep
    elif path.startswith(hub.SCHEME):
        keep = _Temporary()
        for address, local in hub.fetched(path, keep.folder, most):
            yield address, local, keep
    else:
        for file in _local(path):
            yield str(file), file, None


class _Temporary:
    """A folder that is removed when nothing reads from it any longer."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="equipoise-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def _local(path: str) -> list[Path]:
    folder, split = Path(path), None
    with damage(path):
        if not folder.exists() and ":" in path:
            name, _, split = path.rpartition(":")
            folder = Path(name)
        if folder.is_dir():
            return [folder / name for name in folders.chosen(folders.names_in(folder, path), split, path)]
        if not Path(path).exists() and hub.looks_like_a_repository(path):
            raise DataError(
                "no such file", file=path, hint=f"for a data set of the Hugging Face Hub write hf://{path}"
            )
    return [Path(path)]


def _label(file: str, taken: set[str]) -> str:
    """A short name that no other input has."""
    label = name = Path(file).name
    count = 1
    while label in taken:
        count += 1
        label = f"{name} ({count})"
    taken.add(label)
    return label


def _copy(stream: BinaryIO, path: Path) -> None:
    """Writes a stream of unknown length to a file, because rows are read twice."""
    length = 0
    with path.open("wb") as file:
        while data := stream.read(CHUNK):
            length += len(data)
            if length > STANDARD_INPUT:
                raise DataError(
                    f"standard input is longer than {size(STANDARD_INPUT)}",
                    hint="write it to a file and give its name",
                )
            file.write(data)
