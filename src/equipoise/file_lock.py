"""File locks between processes: one holder at a time, released when the process ends, for any reason, on any system."""

from __future__ import annotations

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout


class Taken(RuntimeError):
    """Another process, or another part of this one, holds the lock."""


def take(path: Path) -> BaseFileLock:
    """Lock a file, which is made if it is not there; `release()` or the end of the process gives it back.

    Raises Taken, also if its holder has just deleted the file.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise Taken(f"{path} is locked by another process") from error
    if not path.exists():
        lock.release()
        raise Taken(f"{path} was deleted by the process that held it")
    return lock
