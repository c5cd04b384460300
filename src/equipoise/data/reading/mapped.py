"""Columns of a row under our names: a file's mapping, nested values, and the tags of its turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.data.formats.asked import decoded
from equipoise.data.reading.data_files import DataFile

_MISSING = object()


def renamed(row: Mapping[str, Any], file: DataFile) -> dict[str, Any]:
    """The row with its columns renamed as the file's mapping says; `a.b` and `a.0` reach into objects and lists.

    A column that is renamed is there under its new name alone; one whose value was taken from inside stays.
    """
    if file.only is not None:
        row = {name: value for name, value in row.items() if name in file.only}
    theirs = {name for name in file.mapping.values() if name in row}
    kept = {name: value for name, value in row.items() if name not in theirs and name not in file.mapping}
    for ours, name in file.mapping.items():
        value = row[name] if name in row else _reached(row, name.split("."))
        if value is not _MISSING:
            kept[ours] = _retagged(value, file.tags)
    return kept


def unpacked(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with messages that are written as JSON in a string, as in CSV, read as messages.

    Raises Refusal; see `decoded`.
    """
    return {name: decoded(value) if _is_packed(value) else value for name, value in row.items()}


def _is_packed(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.lstrip()[:2] in ("[{", '{"')
        and ('"role"' in value or '"from"' in value)
    )


def _reached(value: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _retagged(value: Any, tags: Mapping[str, str]) -> Any:
    """Turns with the keys and role names of a data set's own `tags`, as `role` and `content` and known roles."""
    if not tags:
        return value
    if isinstance(value, list):
        return [_retagged(turn, tags) for turn in value]
    role_key, content_key = tags.get("role_tag", "from"), tags.get("content_tag", "value")
    if not isinstance(value, Mapping) or role_key not in value:
        return value
    roles = {tags[name]: role for name, role in _TAGS.items() if name in tags}
    role = value[role_key]
    rest = {key: item for key, item in value.items() if key not in (role_key, content_key)}
    return {**rest, "role": roles.get(role, role), "content": value.get(content_key)}


_TAGS = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
    "observation_tag": "tool",
    "function_tag": "function_call",
}
