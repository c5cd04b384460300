"""Formats without judgements: prompts to answer, and texts or conversations whose beginnings become prompts.

To add one, write its parser and one entry of PROMPTS.
"""

from __future__ import annotations

import re
from itertools import islice

from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.columns import ANSWER_COLUMNS, all_chat, all_text
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.parse_values import Reading, messages_of, text_of


def prompt_text(row: RawRow, reading: Reading) -> Fields:
    """`prompt` (or `input`): a string to answer."""
    name = "prompt" if "prompt" in row else "input"
    return {"context": text_of(row.get(name), name)}


def prompt_chat(row: RawRow, reading: Reading) -> Fields:
    """`prompt` (or `input`): messages to answer."""
    name = "prompt" if "prompt" in row else "input"
    return {"context": messages_of(row.get(name), name)}


def modelling_text(row: RawRow, reading: Reading) -> Fields:
    """`text`: its first `prompt_words` words become the prompt, the rest is kept as extra["continuation"]."""
    text, count = text_of(row.get("text"), "text"), reading.prompt_words
    if not count:
        raise DataError(
            "language-modelling text has no prompts",
            hint="add `prompt_words: 8` to cut prompts from its openings",
        )
    words = list(islice(re.finditer(r"\S+", text), count))
    if len(words) < count:
        raise Refusal(f"fewer than {count} words", f"{len(words)} words")
    reading.notes[f"prompts are the first {count} whole words of `text`"] += 1
    cut = words[-1].end()
    return {"context": text[:cut], "extra": {"continuation": text[cut:]}}


def modelling_chat(row: RawRow, reading: Reading) -> Fields:
    """`messages`: prompt = the turns before the last assistant run, kept as extra["continuation"]."""
    turns = messages_of(row.get("messages"), "messages")
    end = len(turns)
    while end and turns[end - 1].role == "assistant":
        end -= 1
    if not end:
        raise Refusal("no turn to answer")
    reading.notes["prompts are the turns of `messages` before the last answer"] += 1
    return {"context": turns[:end], "extra": {"continuation": [turn.as_dict() for turn in turns[end:]]}}


_NO_TASK = ANSWER_COLUMNS | {"instruction", "question", "prompt"}
_NO_LABEL = ANSWER_COLUMNS | {"label", "kto_tag"}

PROMPTS = (
    Format("prompt-text", "prompt", "text", ("prompt",), prompt_text, all_text("prompt"), ANSWER_COLUMNS),
    Format("prompt-chat", "prompt", "chat", ("prompt",), prompt_chat, all_chat("prompt"), ANSWER_COLUMNS),
    Format("input-text", "prompt", "text", ("input",), prompt_text, all_text("input"), _NO_TASK),
    Format("input-chat", "prompt", "chat", ("input",), prompt_chat, all_chat("input"), _NO_TASK),
    Format("text", "prompt", "text", ("text",), modelling_text, all_text("text"), ANSWER_COLUMNS),
    Format("messages", "prompt", "chat", ("messages",), modelling_chat, all_chat("messages"), _NO_LABEL),
)
