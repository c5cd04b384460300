"""SHA-256 sums of a checkpoint's files, in the format of `sha256sum`: a changed bit is noticed when it is read."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from equipoise.models.errors import ModelError

SUMS = "sha256sums.txt"


def write_sums(folder: Path) -> None:
    """Write the sums of all files of a folder into it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def verify(folder: Path, *, may_lack: tuple[str, ...] = ()) -> None:
    """Check a checkpoint's files against the sums written with them. A folder without sums is not checked.

    may_lack    files that may have been deleted since.

    A file is read once per process while it stays as it is. Raises ModelError naming the first file that is missing or
    has changed.
    """
    if not (folder / SUMS).exists():
        return
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            if name not in may_lack:
                raise ModelError(
                    f"{path} is missing; restore the checkpoint, or delete {folder} to make it again"
                )
            continue
        if _sum(path) != expected:
            raise ModelError(
                f"{path} has changed since it was written (its SHA-256 is not that of {SUMS}); restore the checkpoint"
            )


def _sum(path: Path) -> str:
    status = path.stat()
    return _sum_of(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sum_of(path: Path, inode: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**22):
            digest.update(block)
        return digest.hexdigest()
