"""Prompts and answers as chat turns: strings wrapped, a repeated prompt removed, the assistant's turn checked."""

from __future__ import annotations

from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.formats.parse_values import Reading, messages_of, text_of
from equipoise.data.records import Context, Message
from equipoise.safe_text import is_blank


def chat_prompt(value: Any, reading: Reading) -> tuple[Message, ...]:
    """A prompt as chat turns; a string becomes one user turn, and a note counts it."""
    if not isinstance(value, str):
        return messages_of(value, "prompt")
    reading.notes["string prompt wrapped as user turn"] += 1
    return (Message(role="user", content=text_of(value, "prompt")),)


def chat_answer(value: Any, name: str, reading: Reading) -> tuple[Message, ...]:
    """An answer as chat turns; a string becomes one assistant turn, and a note counts it."""
    if not isinstance(value, str):
        return messages_of(value, name)
    reading.notes["string answer wrapped as assistant turn"] += 1
    return (Message(role="assistant", content=value),)


def without_context(
    turns: tuple[Message, ...], context: tuple[Message, ...], name: str
) -> tuple[Message, ...]:
    """The answer's turns alone, also where the column repeats the whole context in front of them."""
    if turns[0].role == "assistant":
        return turns
    if turns[: len(context)] != context:
        raise Refusal("the answer repeats another prompt", f"{name} begins with {turns[0].role}")
    if len(turns) == len(context):
        raise Refusal(f"{name} adds nothing after the prompt")
    return turns[len(context) :]


def check_answer(answer: Context, name: str, *, may_be_empty: bool = False) -> None:
    """Refuses an empty answer, and chat turns that do not begin and end with the assistant."""
    if isinstance(answer, str):
        text_of(answer, name, may_be_empty=may_be_empty)
        return
    if answer[-1].role != "assistant":
        raise Refusal("last turn is not the assistant's", f"{name} ends with {answer[-1].role}")
    if answer[0].role != "assistant":
        raise Refusal(
            "an answer begins with a turn that is not the assistant's", f"{name} begins with {answer[0].role}"
        )
    if not may_be_empty and not (not is_blank(answer[-1].content) or "tool_calls" in answer[-1].extra):
        raise Refusal(f"{name} is empty")
