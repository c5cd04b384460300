"""Parsers of single values: messages, labels, numbers, tools; each refuses what it cannot read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from equipoise.data.errors import Refusal
from equipoise.data.formats.roles import as_call, joined_calls, role_of
from equipoise.data.records import Message

LABELS = {True: True, False: False, "true": True, "false": False, "True": True, "False": False}
LABELS |= {"1": True, "0": False, "chosen": True, "rejected": False}


@dataclass(kw_only=True)
class Reading:
    """Options of one reading, and the counts that the parsers report in addition to their records.

    prompt_words          language-modelling text: number of leading words that become the prompt
    allow_empty_rejected  accept an empty `rejected`, as the answer that says nothing
    wrap                  rows of plain strings become chat turns
    system                the system prompt of conversations that have none
    equal_scores          a pair whose answers have equal scores is kept as labelled, made a tie, or refused
    notes, repaired       sentence or kind of repair -> number of rows
    """

    prompt_words: int | None = None
    allow_empty_rejected: bool = False
    wrap: bool = False
    system: str | None = None
    equal_scores: Literal["keep", "tie", "drop"] = "keep"
    notes: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)


def shape(value: Any) -> Literal["text", "chat", "none"]:
    """The space of a value: "text" for a string, "chat" for messages, "none" for null and anything else."""
    if isinstance(value, str):
        return "text"
    is_turn = isinstance(value, Mapping) and ("role" in value or "from" in value)
    is_list = isinstance(value, list | tuple) and all(isinstance(turn, Mapping) for turn in value)
    return "chat" if is_turn or is_list else "none"


def without_nulls(value: Any) -> Any:
    """The value without null entries of nested dicts, because Arrow fills absent keys with null."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def bad_text(value: Any) -> str | None:
    """The first invalid character in any string of the value (NUL, lone surrogate), or None."""
    if isinstance(value, str):
        if "\x00" in value:
            return "NUL character"
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"lone surrogate U+{ord(value[error.start]):04X}"
        return None
    if isinstance(value, Mapping):
        return next((why for pair in value.items() for item in pair if (why := bad_text(item))), None)
    if isinstance(value, list | tuple):
        return next((why for item in value if (why := bad_text(item))), None)
    return None


def text_of(value: Any, name: str, *, may_be_empty: bool = False) -> str:
    """A plain string. Refuses null, other types and, unless allowed, an empty or blank string."""
    if not isinstance(value, str):
        reason = f"{name} is null" if value is None else f"{name} is not text"
        raise Refusal(reason, type(value).__name__)
    if not value.strip() and not may_be_empty:
        raise Refusal(f"{name} is empty")
    return value


def messages_of(value: Any, name: str) -> tuple[Message, ...]:
    """Chat turns, as {"role", "content"} or {"from", "value"}; one turn alone counts as a list of one."""
    if value is None:
        raise Refusal(f"{name} is null")
    if shape(value) != "chat":
        raise Refusal(f"{name} is not a list of messages", type(value).__name__)
    turns = [value] if isinstance(value, Mapping) else value
    if not turns:
        raise Refusal(f"{name} is an empty list")
    read = [_message(turn, f"{name}[{index}]") for index, turn in enumerate(turns)]
    return joined_calls([turn for turn, _ in read], [is_call for _, is_call in read])


def _message(turn: dict[str, Any], name: str) -> tuple[Message, bool]:
    """The turn, and whether it was written as a turn of its own that is a tool call."""
    turn = dict(without_nulls(turn))
    role = turn.pop("role", None) or turn.pop("from", None)
    if not isinstance(role, str):
        raise Refusal("a message has no role", name)
    content = _content(turn.pop("content", turn.pop("value", None)), name)
    if "tool_calls" in turn:
        turn["tool_calls"] = [_tool_call(call, name) for call in json_of(turn["tool_calls"], name, list)]
    role = role_of(role, name)
    if role == "call":
        return as_call(content, turn, name), True
    return Message(role=role, content=content, extra=turn), False


def _content(content: Any, name: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Mapping) and isinstance(content.get("answer"), str):
        return str(content["answer"])  # Arena-Hard's answers
    if not isinstance(content, list):
        raise Refusal("the content of a message is not text", f"{name} is {type(content).__name__}")
    kinds = [part.get("type", "text") if isinstance(part, Mapping) else "text" for part in content]
    if any(kind != "text" for kind in kinds):
        raise Refusal("only text is supported", f"{name} holds {', '.join(sorted(set(kinds)))}")
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)


def _tool_call(call: Any, name: str) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    arguments = json_of(function["arguments"], f"{name} arguments", dict)
    return {**call, "function": {**function, "arguments": arguments}}


def json_of(value: Any, name: str, kind: type) -> Any:
    """A list or dict, given as such or as a JSON string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise Refusal(
                "broken JSON inside a field", f"{name}, position {error.pos}: {error.msg}"
            ) from None
    if not isinstance(value, kind):
        raise Refusal(f"{name} is not a {kind.__name__}", type(value).__name__)
    return value


def label_of(value: Any) -> bool:
    """A binary label: true/false, 1/0, these as strings, "chosen"/"rejected". Refuses anything else."""
    known = isinstance(value, bool | int | float | str) and value in LABELS
    if not known:
        raise Refusal("label is neither true nor false", repr(value))
    return LABELS[value]


def number_of(row: Mapping[str, Any], name: str, reading: Reading) -> float | None:
    """A finite number, or None if the column is absent or null; a numeric string is converted and counted."""
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Refusal(f"{name} is not a number", repr(value)) from None
        reading.repaired[f"{name}: numeric string converted"] += 1
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal(f"{name} is not a finite number", repr(value))
    return float(value)


def common_of(row: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """The optional columns of every format as Record fields; refuses rows with media."""
    media = next((name for name in ("images", "image", "videos", "audios") if row.get(name)), None)
    if media:
        files = len(row[media]) if isinstance(row[media], list) else 1
        marks = json.dumps(dict(row), default=str).count(f"<{media.rstrip('s')}>")
        raise Refusal("only text is supported", f"{media}: {files} file(s), {marks} placeholder(s)")
    prob = number_of(row, "prob", reading)
    if prob is not None and not 0 <= prob <= 1:
        raise Refusal("prob is outside [0, 1]", repr(prob))
    weight = number_of(row, "weight", reading)
    if weight is not None and weight < 0:
        raise Refusal("weight is negative", repr(weight))
    fields: dict[str, Any] = {
        "prob": prob,
        "weight": weight,
        "margin": number_of(row, "margin", reading),
        "id": None if row.get("id") is None else str(row["id"]),
    }
    if row.get("tools") not in (None, "", []):
        fields["tools"] = tuple(without_nulls(json_of(row["tools"], "tools", list)))
    if row.get("chat_template_kwargs") not in (None, "", {}):
        fields["template_kwargs"] = without_nulls(
            json_of(row["chat_template_kwargs"], "chat_template_kwargs", dict)
        )
    if row.get("rationale") is not None:
        fields["rationale"] = text_of(row["rationale"], "rationale")
    return {name: value for name, value in fields.items() if value is not None}
