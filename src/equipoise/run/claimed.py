"""Lock of a run folder: one process at a time; nothing is written without it, and a refused run leaves no folder."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from equipoise.run.config import ConfigError

LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Context manager: the folder is there and locked; released when the process ends, for any reason.

    A folder, or the content of an empty one, that was made for a run which ended before its first policy was written is
    removed again. Raises ConfigError if another process holds it, or for a folder that is no run folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose another run folder")
    content = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if content and not content & {"config.yaml", LOCK}:
        raise ConfigError(f"{folder} is not empty and is not a run folder; choose another")
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        _lock(file, folder)
        try:
            yield
        except BaseException:
            if not content and not any(folder.rglob("checkpoints")):
                _remove(folder, made)
            raise


def _lock(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(f"another process is running in {folder}; choose another folder") from error
    lock = folder / LOCK
    if not lock.exists() or lock.stat().st_ino != os.fstat(file.fileno()).st_ino:
        raise ConfigError(f"another process has just removed {folder}; repeat the command")


def _remove(folder: Path, made: list[Path]) -> None:
    """Remove what is in the folder, then the folders that were made for it, unless something else is in them."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for part in made:
        try:
            part.rmdir()
        except OSError:
            return
