"""Roles of chat turns under the names that data sets use, mapped to those of chat templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.files.json_values import JsonValues
from equipoise.data.records import Message

ROLES = {
    "user": ("user", "human", "customer", "prompter", "instruction", "question", "questioner", "client"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatbot", "chatgpt", "ai", "answer", "agent", "llm"),
    "system": ("system", "developer"),
    "tool": (
        *("tool", "observation", "tool_response", "tool_result", "tool_output", "ipython"),
        *("function", "function_response", "function_result"),
    ),
    "call": ("function_call", "tool_call"),  # an assistant turn whose content is the call
}
_ROLE_OF = {name: role for role, names in ROLES.items() for name in names}


def role_of(name: str, where: str) -> str:
    """The template's role for a data set's, case-insensitively; "call" for a turn that is a tool call.

    Raises Refusal for a role that is not known: a template would render it as a speaker the model has never seen.
    """
    role = _ROLE_OF.get(name.strip().lower().replace("-", "_").replace(" ", "_"))
    if role is None:
        raise Refusal(f"unknown role {name!r}; use user, assistant, system or tool", where)
    return role


def is_role(name: Any, role: str) -> bool:
    """Whether a value of a data set is a name of this role."""
    return isinstance(name, str) and _ROLE_OF.get(name.strip().lower()) == role


def as_call(content: str, extra: Mapping[str, Any], where: str) -> Message:
    """The assistant's turn that makes the calls which a turn of role `function_call` or `tool_call` contains.

    content   JSON: {"name", "arguments"}, or a list of such objects; arguments may be a JSON string.
    """
    calls = _json(content, where, "a tool call is not JSON with name and arguments")
    calls = calls if isinstance(calls, list) else [calls]
    made = [{"type": "function", "function": _function(call, where)} for call in calls]
    if not made:
        raise Refusal("a tool call is an empty list", where)
    return Message(role="assistant", content="", extra={**extra, "tool_calls": made})


def _json(text: str, where: str, broken: str) -> Any:
    try:
        value = JsonValues().whole(text)
    except json.JSONDecodeError as error:
        raise Refusal(broken, f"{where}, position {error.pos}: {error.msg}") from None
    if isinstance(value, Refusal):
        raise Refusal(value.reason, f"{where}: {value.detail}" if value.detail else where)
    return value


def _function(call: Any, where: str) -> dict[str, Any]:
    call = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise Refusal("a tool call is not JSON with name and arguments", where)
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _json(arguments or "{}", where, "broken JSON inside a field")
    if not isinstance(arguments, Mapping):
        raise Refusal("the arguments of a tool call are not an object", where)
    return {"name": call["name"], "arguments": dict(arguments)}


def joined_calls(turns: Sequence[Message], calls: Sequence[bool]) -> tuple[Message, ...]:
    """The turns with a call joined to the assistant's turn just before it: one turn may say and call.

    calls   for each turn, whether it was written as a turn of its own that is a call.
    """
    joined: list[Message] = []
    for turn, call in zip(turns, calls, strict=True):
        before = joined[-1] if joined else None
        if call and before is not None and before.role == "assistant":
            all_calls = [*before.extra.get("tool_calls", ()), *turn.extra["tool_calls"]]
            joined[-1] = replace(before, extra={**before.extra, **turn.extra, "tool_calls": all_calls})
        else:
            joined.append(turn)
    return tuple(joined)
