"""One data set out of several files: records of one kind, in one space."""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.data.errors import DataError
from equipoise.data.records import Kind, Space

WORDS: Mapping[Kind, str] = {
    "pair": "preference pairs",
    "unpaired": "unpaired answers",
    "demonstration": "demonstrations",
    "prompt": "prompts",
    "rank": "ranked lists",
    "scores": "scored lists",
}


def joined_kind(kinds: Mapping[str, Kind]) -> Kind:
    """The kind of all files; ranked and scored lists join as scored ones. Raises DataError for two, naming both."""
    distinct = dict.fromkeys(kinds.values())
    if set(distinct) == {"rank", "scores"}:
        return "scores"
    _alike({file: WORDS[kind] for file, kind in kinds.items()}, "read each kind in a run of its own")
    return next(iter(distinct))


def joined_space(spaces: Mapping[str, Space]) -> Space:
    """The space of all files. Raises DataError for a mixture of plain text and chat."""
    words = {"text": "plain text", "chat": "chat turns"}
    _alike(
        {file: words[space] for file, space in spaces.items()},
        "set `data.wrap: chat` to wrap strings as turns",
    )
    return next(iter(spaces.values()))


def _alike(files: Mapping[str, str], hint: str) -> None:
    first: dict[str, str] = {}
    for file, what in files.items():
        first.setdefault(what, file)
    if len(first) > 1:
        shown = " and ".join(f"{what} ({file})" for what, file in first.items())
        raise DataError(f"these files do not mix: {shown}", hint=hint)
