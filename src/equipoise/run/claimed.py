"""Lock of a run folder: one process at a time; nothing is written without it, and a refused run leaves no folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock

from equipoise.file_lock import Taken, take
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
    lock = _lock(folder)
    try:
        yield
    except BaseException:
        if not content and not any(folder.rglob("checkpoints")):
            _remove(folder, made, lock)
        raise
    finally:
        lock.release()


def _lock(folder: Path) -> BaseFileLock:
    try:
        return take(folder / LOCK)
    except Taken as error:
        raise ConfigError(
            f"another process is running in {folder}, or has just removed it; choose another folder, or repeat the "
            "command"
        ) from error


def _remove(folder: Path, made: list[Path], lock: BaseFileLock) -> None:
    """Remove what is in the folder, then the folders that were made for it, unless something else is in them."""
    if os.name == "nt":  # which deletes no open file
        lock.release()
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for part in made:
        try:
            part.rmdir()
        except OSError:
            return
