"""Data sets of the Hugging Face Hub: `hf://owner/name`, `hf://owner/name:split`, `hf://datasets/owner/name/path`.

The chosen files, or their first rows, are copied to a temporary folder, so that they can be read twice; nothing of the
data set is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from equipoise.data.errors import DataError
from equipoise.data.files.first_rows import copy_rows
from equipoise.data.files.folders import chosen

SCHEME = "hf://"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.@-]+")


def filesystem() -> Any:
    """The Hub as an fsspec file system."""
    from huggingface_hub import HfFileSystem

    return HfFileSystem()


def looks_like_a_repository(path: str) -> bool:
    """Whether a path that does not exist reads like the name of a data set."""
    return re.fullmatch(r"[\w-]+/[\w.-]+", path) is not None


def fetched(address: str, folder: Path, most: int | None = None) -> list[tuple[str, Path]]:
    """(address, local path) of every data file of a Hub address, copied into `folder`.

    most    rows that are wanted of them all: files behind these rows are not fetched, and of Parquet files and JSON
            lines no row behind them is

    Raises DataError for an address that names nothing, a choice between splits, or a Hub that cannot be reached.
    """
    repository, path, split = parsed(address)
    with _reached(address):
        hub = filesystem()
        root = "/".join(filter(None, ("datasets", repository, path)))
        if path and hub.isfile(root):
            names, base = [PurePosixPath(root).name], root.rsplit("/", 1)[0]
        else:
            found = [name.removeprefix("/") for name in hub.find(root)]
            names, base = [name.removeprefix(root).lstrip("/") for name in found], root
            if not names:
                raise DataError("no such data set on the Hub, or it is private", file=address, hint=_LOGIN)
            names = chosen(names, split, address)
        files = []
        for number, name in enumerate(names):
            local = folder / f"{number:05}-{PurePosixPath(name).name}"
            there = None if most is None else copy_rows(hub, f"{base}/{name}", local, most)
            if there is None:
                hub.get_file(f"{base}/{name}", str(local))
            files.append((f"{SCHEME}{base}/{name}", local))
            most = most if most is None or there is None else most - there
            if most == 0:
                break
    return files


def parsed(address: str) -> tuple[str, str, str | None]:
    """(owner/name, path inside it or "", split or None) of a Hub address."""
    rest, _, split = address.removeprefix(SCHEME).removeprefix("datasets/").partition(":")
    parts = rest.strip("/").split("/", 2)
    repository, path = "/".join(parts[:2]), parts[2] if len(parts) > 2 else ""
    if not _REPOSITORY.fullmatch(repository) or ".." in PurePosixPath(path).parts:
        raise DataError(
            "not an address of a data set",
            file=address,
            hint="write hf://owner/name, hf://owner/name:split "
            "or hf://datasets/owner/name/path/of/file.parquet",
        )
    return repository, path, split or None


_LOGIN = "check the name; for a private or gated data set log in with `hf auth login`"


@contextmanager
def _reached(address: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("no such data set or file on the Hub", file=address, hint=_LOGIN) from None
    except Exception as error:  # noqa: BLE001 - the errors of the HTTP library have no common base that is stable
        why = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise DataError(
            f"the Hugging Face Hub cannot be reached: {why}",
            file=address,
            hint="without network, download the data set where there is one and give its folder",
        ) from None
