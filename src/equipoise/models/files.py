"""Files of a model folder, read as untrusted input: regular files only, bounded JSON, safetensors headers."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.models.errors import ModelError, first_line

JSON_BYTES = 64 * 2**20  # of a configuration or an index
TOKENIZER_BYTES = 512 * 2**20  # of a tokenizer file
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Header:
    """Header of one tensor in a safetensors file: where it is, its dtype as the file names it, and its shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for side in self.shape:
            count *= side
        return count


def regular(path: Path, most: int | None = None) -> None:
    """Check that a path is a regular file of at most `most` bytes, links followed. Raises ModelError.

    A pipe or a device would block or never end.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        reason = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise ModelError(f"{path} {reason}; copy the model's folder again") from None
    except OSError as error:  # a loop of links, no permission
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path} is not a regular file; a model's folder holds plain files only")
    if most is not None and status.st_size > most:
        raise ModelError(f"{path} has {status.st_size:,} bytes, more than {most:,}: this is no such file")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises ModelError, with the place, for anything else."""
    regular(path, JSON_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def check_files(folder: Path) -> None:
    """Check every file of a folder that a loader may open, whatever its name. Raises ModelError."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror or error}") from None
    for path in entries:
        if path.suffix in (".json", ".jinja", ".txt", ".model", ".tiktoken"):
            regular(path, JSON_BYTES if path.name.endswith("config.json") else TOKENIZER_BYTES)
        elif path.suffix == ".safetensors":
            regular(path)


def headers(folder: Path, stem: str) -> dict[str, Header]:
    """Tensors of a folder's weights by name, from `stem`.safetensors or the shards of its index; headers only.

    Raises ModelError for weights that are missing, pickled, outside the folder, cut, or not those that the index names.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if _there(single):
        tensors = _header(single)
    elif _there(index):
        tensors = _of_shards(folder, index)
    else:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
        raise ModelError(
            f"{folder} holds pickled weights only ({pickled[0]}), which can run code and are not read; save the model "
            "again as safetensors"
            if pickled
            else f"{folder} holds no weights: {single.name} or {index.name} is missing"
        )
    if not tensors:
        raise ModelError(f"{folder} holds no weights: its safetensors files have no tensor")
    return tensors


def _there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _of_shards(folder: Path, index: Path) -> dict[str, Header]:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(n, str) for n in places.values()):
        raise ModelError(f"{index} has no weight_map from weights to files")
    return _named_by_index(folder, index, places)


def _named_by_index(folder: Path, index: Path, places: Mapping[str, str]) -> dict[str, Header]:
    shards: dict[str, dict[str, Header]] = {}
    for name in sorted(set(places.values())):
        if not name.endswith(".safetensors"):
            raise ModelError(f"{index} names {name!r}; only safetensors files are read")
        if Path(name).name != name or "\\" in name:
            raise ModelError(f"{index} names {name!r}, which is not a file of this folder")
        if not _there(folder / name):
            raise ModelError(
                f"{folder / name} is missing, though {index.name} names it; copy the folder again"
            )
        shards[name] = _header(folder / name)
    for tensor, name in places.items():
        if tensor not in shards[name]:
            raise ModelError(f"{folder / name} lacks {tensor}, which {index.name} places there")
    return {tensor: header for shard in shards.values() for tensor, header in shard.items()}


def _header(path: Path) -> dict[str, Header]:
    from safetensors import safe_open

    regular(path)
    try:
        with safe_open(str(path), framework="numpy") as file:
            found = {}
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part = file.get_slice(name)
                found[name] = Header(path, str(part.get_dtype()), tuple(part.get_shape()))
    except Exception as error:  # noqa: BLE001 - safetensors raises undocumented types
        size = path.stat().st_size
        reason = "is empty" if size == 0 else f"is not an intact safetensors file ({first_line(error)})"
        raise ModelError(f"{path} {reason}; copy or download it again") from None
    return found
