"""LLaMA-Factory's dataset_info.json: the data sets that it describes, as data files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError
from equipoise.data.files.open_bytes import damage
from equipoise.data.reading.data_files import DataFile, PathLike, data_file

# our column <- its name in `columns`; without `columns` the names are those that are read anyway
ALPACA = {"instruction": "prompt", "input": "query", "output": "response"}
COMMON = {
    "system": "system",
    "history": "history",
    "tools": "tools",
    "chosen": "chosen",
    "rejected": "rejected",
}
COMMON |= {"kto_tag": "kto_tag"}
TURNS = {"conversations": "messages"}
SOURCES = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
OPENAI_TAGS = {"role_tag": "role", "content_tag": "content"}
_LONGEST = 1 << 20  # bytes; a description is short


def described(file: DataFile) -> list[DataFile]:
    """The data sets of a dataset_info.json, or none if the file is something else.

    Its `split` chooses one of them by name. Giving `columns` switches off the columns that it does not list. Raises
    DataError for an entry that does not name a file.
    """
    with damage(file.path):
        info = _info(Path(file.path))
    if info is None:
        return []
    if file.split is not None:
        if file.split not in info:
            raise DataError(f"no data set {file.split!r}", file=file.path, hint=f"it has {', '.join(info)}")
        info = {file.split: info[file.split]}
    return [_file(name, entry, file) for name, entry in info.items()]


def _info(path: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """What the file describes: an object of objects, each with a source; None for any other file."""
    if not path.is_file() or path.stat().st_size > _LONGEST or path.read_bytes()[:200].lstrip()[:1] != b"{":
        return None
    try:
        info = json.loads(path.read_bytes())
    except ValueError:
        return None
    entries = list(info.values()) if isinstance(info, dict) else []
    known = all(isinstance(entry, dict) and set(SOURCES) & set(entry) for entry in entries)
    return info if entries and known else None


def _file(name: str, entry: Mapping[str, Any], file: DataFile) -> DataFile:
    if not isinstance(entry.get("file_name"), str):
        source = next(key for key in SOURCES if key in entry)
        raise DataError(
            f"data set {name!r} is not a file: {source} {entry[source]!r}",
            file=file.path,
            hint="download it, and give its `file_name`",
        )
    given, tags = entry.get("columns"), entry.get("tags") or {}
    formatting = entry.get("formatting", "alpaca")
    fields = (ALPACA if formatting == "alpaca" else TURNS) | COMMON
    known = {theirs: ours for ours, theirs in fields.items()}
    mapping = {known[field]: column for field, column in (given or {}).items() if field in known}
    only = frozenset(mapping.values()) if given is not None else None
    path = Path(file.path).parent / entry["file_name"]
    if not path.exists():
        raise DataError(f"data set {name!r}: no file {entry['file_name']!r} in its folder", file=file.path)
    own = replace(file, path=str(path), split=entry.get("split"), limit=entry.get("num_samples", file.limit))
    usual = OPENAI_TAGS if formatting == "openai" else {}
    return replace(own, mapping={**mapping, **file.mapping}, only=only, tags=usual | tags)


def data_files(
    paths: PathLike | Sequence[PathLike], *, format: str = "auto", mapping: Mapping[str, str] | None = None
) -> list[DataFile]:
    """The files to read, each with its settings; a `dataset_info.json` stands for the data sets it describes.

    format, mapping   of the files that say nothing of their own
    """
    items = [paths] if isinstance(paths, str | Path | Mapping | DataFile) else list(paths)
    files = [data_file(item, format=format, mapping=mapping or {}) for item in items]
    return [file for given in files for file in (described(given) or [given])]
