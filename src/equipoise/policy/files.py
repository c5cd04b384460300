"""Atomic writes: files and folders appear whole or not at all: readers and resumed runs never see half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # commands that write a text load no PyTorch
    from torch import Tensor

MOMENTS = "optimizer.moments"  # of a checkpoint; not *.safetensors: those are weights
FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(OSError):
    """The disk, or a quota, is full; the message names the file, and what to do."""


class Seal(Protocol):
    """Integrity of finished files: what was recorded when a file was finished is verified when it is read."""

    def record(self, path: Path) -> None: ...

    def verify(self, path: Path) -> None:
        """Raises ValueError for a file that is not as it was recorded."""
        ...


@contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Context manager for a write: a full disk raises DiskFull with the path, whichever library was writing."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:  # safetensors and pyarrow have types of their own
        number = error.errno if isinstance(error, OSError) else None
        if number in FULL or (number is None and os.strerror(errno.ENOSPC) in str(error)):
            raise DiskFull(
                f"disk full while writing {path}; free space and repeat the command: it resumes"
            ) from error
        raise


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file or folder whole or not at all: yields a temporary sibling, renamed to `path` only on success.

    Raises DiskFull, and leaves nothing behind, if there is no space for it.
    """
    draft = path.with_name(f".{path.name}.partial")
    with naming_a_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(draft)
        try:
            yield draft
            _settle(draft)
            _remove(path) if draft.is_dir() else None  # a folder cannot replace a folder in one step
            draft.replace(path)
            sync(path.parent)
        finally:
            _remove(draft)


def write_text(path: Path, text: str) -> None:
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **about: str) -> None:
    from safetensors.torch import save_file

    with whole(path) as draft:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, draft, metadata=about)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: (tensors, text metadata). Raises ValueError if the file is not intact."""
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # safetensors raises undocumented types
        raise ValueError(f"{path} is not an intact safetensors file: {error}") from error


def read_about(path: Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file, without its tensors. Raises ValueError if it is not intact."""
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:  # safetensors raises undocumented types
        raise ValueError(f"{path} is not an intact safetensors file: {error}") from error


def sync(path: Path) -> None:
    """Flush a file or the entries of a folder to the disk: a rename survives a power loss only once its folder has."""
    if os.name == "nt" and path.is_dir():  # where folders have no handle, and are written at once
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _settle(draft: Path) -> None:
    """Flush a draft with all that is in it, and give its files the permissions that the user's umask gives new files.

    Libraries write through temporary files, which no other user may read.
    """
    mask = os.umask(0)
    os.umask(mask)
    for path in [*draft.rglob("*"), draft] if draft.is_dir() else [draft]:
        if path.is_file():
            path.chmod(0o666 & ~mask)
        sync(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
