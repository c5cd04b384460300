"""Parsers of single values: messages, labels, numbers, tools; each refuses what it cannot read."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from equipoise.data.errors import Refusal
from equipoise.data.files.json_values import JsonValues
from equipoise.data.formats.roles import as_call, joined_calls, role_of
from equipoise.data.records import Message
from equipoise.safe_text import is_blank

LABELS = {True: True, False: False, "true": True, "false": False}
LABELS |= {"1": True, "0": False, "chosen": True, "rejected": False}
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MOST_WEIGHT = 1e6  # of one row, where 1 is usual: a larger one would be its whole step
# what a chat template is always given, which a row's `chat_template_kwargs` must not replace
RESERVED = frozenset(
    ("messages", "conversation", "tools", "chat_template", "add_generation_prompt", "tokenize")
)
RESERVED |= {"continue_final_message", "return_tensors", "return_dict", "return_assistant_tokens_mask"}
RESERVED |= {"padding", "truncation", "max_length", "tokenizer_kwargs", "raise_exception", "strftime_now"}


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


def text_of(value: Any, name: str, *, may_be_empty: bool = False) -> str:
    """A plain string. Refuses null, other types and, unless allowed, one of which nothing is seen."""
    if not isinstance(value, str):
        reason = f"{name} is null" if value is None else f"{name} is not text"
        raise Refusal(reason, type(value).__name__)
    if not may_be_empty and is_blank(value):
        raise Refusal(f"{name} is empty", repr(value) if value.strip() else "")
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
    return "".join(_part(part, name, index) for index, part in enumerate(content))


def _part(part: Any, name: str, index: int) -> str:
    """The text of one part of a message's content: a string, or {"type": "text", "text": ...}."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise Refusal("a part of a message is neither text nor an object", f"{name}, part {index}")
    kind = part.get("type", "text")
    if not isinstance(kind, str):
        raise Refusal("the type of a part is not text", f"{name}, part {index}")
    if kind != "text":
        raise Refusal("only text is supported", f"{name} holds {kind}")
    text = part.get("text")
    if not isinstance(text, str):
        raise Refusal("a part of a message has no text", f"{name}, part {index}")
    return text


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
            value = JsonValues().whole(value)
        except json.JSONDecodeError as error:
            raise Refusal(
                "broken JSON inside a field", f"{name}, position {error.pos}: {error.msg}"
            ) from None
    if isinstance(value, Refusal):
        raise Refusal(value.reason, f"{name}: {value.detail}" if value.detail else name)
    if not isinstance(value, kind):
        raise Refusal(f"{name} is not a {kind.__name__}", type(value).__name__)
    return value


def label_of(value: Any) -> bool:
    """A binary label: true/false, 1/0, these as strings in any case, "chosen"/"rejected". Refuses anything else."""
    if isinstance(value, str):
        value = value.strip().lower()
    known = isinstance(value, bool | int | float | str) and value in LABELS
    if not known:
        raise Refusal("label is neither true nor false", repr(value))
    return LABELS[value]


def number_of(row: Mapping[str, Any], name: str, reading: Reading) -> float | None:
    """A finite number, or None if the column is absent, null or blank; a numeric string is converted and counted."""
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        if not NUMBER.fullmatch(value.strip()):
            raise Refusal(f"{name} is not a number", repr(value))
        reading.repaired[f"{name}: numeric string converted"] += 1
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(f"{name} is not a finite number", repr(value))
    try:
        number = float(value)
    except OverflowError:
        raise Refusal(f"{name} is not a finite number", "too large") from None
    if not math.isfinite(number):
        raise Refusal(f"{name} is not a finite number", repr(value))
    return number


def weight_of(row: Mapping[str, Any], reading: Reading) -> float | None:
    """The weight of a row, from 0 to MOST_WEIGHT: only ratios of weights count, so larger ones can be divided."""
    weight = number_of(row, "weight", reading)
    if weight is not None and weight < 0:
        raise Refusal("weight is negative", repr(weight))
    if weight is not None and weight > MOST_WEIGHT:
        raise Refusal(
            f"weight is above {MOST_WEIGHT:,.0f}: divide all weights by the same number", repr(weight)
        )
    return weight


def template_kwargs_of(value: Any) -> dict[str, Any]:
    """A row's variables of the chat template. Refuses names that are not the data's to choose (`RESERVED`, tokens)."""
    kwargs = dict(without_nulls(json_of(value, "chat_template_kwargs", dict)))
    taken = [name for name in kwargs if name in RESERVED or name.endswith("_token")]
    if taken:
        raise Refusal("chat_template_kwargs may not set this", ", ".join(taken))
    return kwargs


def tools_of(value: Any) -> tuple[Any, ...]:
    """The tools of a row: a list of objects, or JSON of one."""
    tools = without_nulls(json_of(value, "tools", list))
    odd = next((i for i, tool in enumerate(tools) if not isinstance(tool, Mapping)), None)
    if odd is not None:
        raise Refusal("a tool is not an object", f"tools[{odd}] is {type(tools[odd]).__name__}")
    return tuple(tools)


def id_of(row: Mapping[str, Any]) -> str | None:
    """The row's own name, text or a number; None if it has none."""
    value = row.get("id")
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refusal("id is neither text nor a number", type(value).__name__)
    return str(value)


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
    fields: dict[str, Any] = {
        "prob": prob,
        "weight": weight_of(row, reading),
        "margin": number_of(row, "margin", reading),
        "id": id_of(row),
    }
    if row.get("tools") not in (None, "", []):
        fields["tools"] = tools_of(row["tools"])
    if row.get("chat_template_kwargs") not in (None, "", {}):
        fields["template_kwargs"] = template_kwargs_of(row["chat_template_kwargs"])
    if row.get("rationale") is not None:
        fields["rationale"] = text_of(row["rationale"], "rationale")
    return {name: value for name, value in fields.items() if value is not None}
