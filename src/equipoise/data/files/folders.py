"""Which files of a folder are the data: shards of one split, or a saved data set; the rule reads names alone.

The same rule serves a folder on disk and a data set of the Hugging Face Hub.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from equipoise.data.errors import DataError
from equipoise.data.files.bounds import FILES

KINDS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow")
PACKED = (".gz", ".zst", ".xz", ".bz2")
ABOUT = frozenset(
    {"state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "config.json"}
)
_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_PART = re.compile(r"[-_.](part|shard|chunk)?[-_.]?\d+$")
_SPLIT = re.compile(
    r"(^|[-_. ])(train|training|validation|valid|val|dev|test|testing|eval|evaluation)(?=$|[-_. \d])"
)


def names_in(folder: Path, shown: str) -> list[str]:
    """The files below a folder, relative to it, hidden ones left out."""
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(place).relative_to(folder)
        names += [(below / name).as_posix() for name in files if not name.startswith(".")]
        if len(names) > FILES:
            raise DataError(
                f"more than {FILES:,} files in the folder", file=shown, hint="name the data files"
            )
    return sorted(names)


def chosen(names: Iterable[str], split: str | None, shown: str) -> list[str]:
    """The data files among these names, in order: those of `split`, or of the only one there is.

    Raises DataError where that is a choice (several splits, configurations or kinds of file), where a shard of a
    numbered set is missing, and where there are no data.
    """
    names = sorted(names)
    if any(PurePosixPath(name).name == "indices.arrow" for name in names):
        raise DataError(
            "the saved data set selects its rows by an index",
            file=shown,
            hint="save it again after flatten_indices()",
        )
    data = [name for name in names if _kind(name)]
    if not data:
        raise DataError(
            "no data files in this folder",
            file=shown,
            hint=f"it should hold files that end in {', '.join(KINDS)}",
        )
    files = _of_split(data, split, shown)
    _one("kinds of file", [_kind(name) for name in files], shown, "name the files of one kind")
    folders = [PurePosixPath(name).parent.as_posix() for name in files]
    _one("folders", folders, shown, "name one folder, or its files")
    _check_complete(files, shown)
    return files


def split_of(name: str) -> str:
    """The split that a file belongs to, by its name or its folder; "" where neither names one."""
    path = PurePosixPath(name)
    stem = _bare(path.name)
    shard = _SHARD.fullmatch(stem)
    stem = shard["name"] if shard else _PART.sub("", stem)
    if _SPLIT.search(stem) or (shard and stem not in ("data", "part", "shard")):
        return stem
    return next((part for part in reversed(path.parts[:-1]) if _SPLIT.search(part)), "")


def _of_split(names: Sequence[str], split: str | None, shown: str) -> list[str]:
    splits: dict[str, list[str]] = defaultdict(list)
    for name in names:
        splits[split_of(name)].append(name)
    if split is not None:
        if split not in splits:
            listed = ", ".join(name or "(files without one)" for name in splits)
            raise DataError(f"no split {split!r}", file=shown, hint=f"it has: {listed}")
        return splits[split]
    if len(splits) > 1:
        known = [name for name in splits if name]
        raise DataError(
            f"several splits: {', '.join(known)}" + (" and other files" if "" in splits else ""),
            file=shown,
            hint=f"choose one, e.g. {shown}:{known[0]}",
        )
    return next(iter(splits.values()))


def _one(what: str, values: Sequence[str], shown: str, hint: str) -> None:
    different = sorted(set(values))
    if len(different) > 1:
        listed = ", ".join(different[:5]) + (", ..." if len(different) > 5 else "")
        raise DataError(f"data in several {what}: {listed}", file=shown, hint=hint)


def _check_complete(names: Sequence[str], shown: str) -> None:
    """Raises DataError if shards are numbered and one is missing."""
    found = [shard for name in names if (shard := _SHARD.fullmatch(_bare(PurePosixPath(name).name)))]
    counts = {int(shard["count"]) for shard in found}
    numbers = {int(shard["number"]) for shard in found}
    if found and (len(counts) > 1 or numbers != set(range(max(counts)))):
        raise DataError(
            f"{len(numbers)} of {' or '.join(str(count) for count in sorted(counts))} shards are there",
            file=shown,
            hint="was the download cut short, or two of them mixed?",
        )


def _kind(name: str) -> str:
    """The ending that says what kind of data the file holds; "" for a file that holds none."""
    path = PurePosixPath(name)
    plain = path.with_suffix("") if path.suffix in PACKED else path
    hidden = (
        path.name in ABOUT
        or path.name.startswith(("cache-", "_"))
        or any(p.startswith(".") for p in path.parts)
    )
    return plain.suffix if plain.suffix in KINDS and not hidden else ""


def _bare(name: str) -> str:
    path = PurePosixPath(name)
    return (path.with_suffix("") if path.suffix in PACKED else path).stem
