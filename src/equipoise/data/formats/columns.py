"""Column names that several formats share, and tests of the shapes of a row's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from equipoise.data.formats.format import RawRow
from equipoise.data.formats.parse_values import shape
from equipoise.data.formats.roles import is_role

# Columns every format understands; all others are kept in `extra`, unused.
OPTIONAL_COLUMNS = ("id", "prob", "weight", "margin", "rationale", "tools", "chat_template_kwargs")
# The annotator's id, and attributes of the row or of each of its answers: read by every format too.
USER_COLUMNS = (
    "user_id",
    "annotator_id",
    "annotator",
    "worker_id",
    "worker",
    "rater_id",
    "rater",
    "user",
    "judge",
)
ATTRIBUTES, RESPONSE_ATTRIBUTES = "attributes", "response_attributes"
SIDE_ATTRIBUTES = (("attributes_chosen", "attributes_rejected"), ("chosen_attributes", "rejected_attributes"))
ANNOTATION_COLUMNS = (*USER_COLUMNS, ATTRIBUTES, RESPONSE_ATTRIBUTES)
MEDIA_COLUMNS = ("images", "image", "videos", "audios")
# Columns that hold an answer or a label: a file with one of them is more than a list of prompts or texts.
ANSWER_COLUMNS = frozenset(
    ("chosen", "rejected", "completion", "completions", "response", "responses", "output", "answers")
)
ANSWER_COLUMNS |= {"output_1", "output_2", "response1", "response2", "rejected_response", "conversation_a"}
ANSWER_COLUMNS |= {"conversation_b", "preferred_output", "non_preferred_output"}

SIDES = ("chosen", "rejected")  # of a pair


def shapes(row: RawRow, *names: str) -> tuple[str, ...]:
    """The shape of each of these columns: "text", "chat" or "none"."""
    return tuple(shape(row.get(name)) for name in names)


def all_text(*names: str) -> Callable[[RawRow], bool]:
    """The test that these columns all hold strings."""
    return lambda row: set(shapes(row, *names)) == {"text"}


def all_chat(*names: str) -> Callable[[RawRow], bool]:
    """The test that these columns all hold messages."""
    return lambda row: set(shapes(row, *names)) == {"chat"}


def some_chat(*names: str) -> Callable[[RawRow], bool]:
    """The test that these columns hold messages or strings, messages at least once, and no hybrid pair."""

    def fits(row: RawRow) -> bool:
        found = set(shapes(row, *names))
        return "chat" in found and "none" not in found and not is_hybrid(row)

    return fits


def is_hybrid(row: RawRow) -> bool:
    """Whether a string `prompt` comes with two whole conversations: both contain a user turn."""
    return shapes(row, "prompt", *SIDES) == ("text", "chat", "chat") and all(
        any(is_role(role, "user") for role in _roles(row[name])) for name in SIDES
    )


def _roles(value: Any) -> list[Any]:
    turns = [value] if isinstance(value, Mapping) else value
    return [turn.get("role") or turn.get("from") for turn in turns]
