"""Formats without judgements: prompts to answer, and texts or conversations whose beginnings become prompts.

To add one, write its parser and one entry of PROMPTS.
"""

from __future__ import annotations

import re
from itertools import islice

from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.asked import begins_with_user, is_texts
from equipoise.data.formats.columns import ANSWER_COLUMNS, all_chat, all_text
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.parse_values import Reading, messages_of, text_of
from equipoise.data.records import Message


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
    """`messages` (or `conversations`): prompt = the turns before the last assistant run, kept as
    extra["continuation"]."""
    name = "messages" if "messages" in row else "conversations"
    turns = messages_of(row.get(name), name)
    end = len(turns)
    while end and turns[end - 1].role == "assistant":
        end -= 1
    if not end:
        raise Refusal("no turn to answer")
    reading.notes[f"prompts are the turns of `{name}` before the last answer"] += 1
    return {"context": turns[:end], "extra": {"continuation": [turn.as_dict() for turn in turns[end:]]}}


def first_turn(row: RawRow, reading: Reading) -> Fields:
    """`turns`: a list of the user's questions, as in MT-Bench; the prompt is the first."""
    if len(row["turns"]) > 1:
        reading.notes[
            "the prompt is the first of `turns`; later ones answer nothing yet, and are left out"
        ] += 1
    return {"context": (Message(role="user", content=text_of(row["turns"][0], "turns[0]")),)}


def _is_chat(row: RawRow) -> bool:
    return all_chat("messages" if "messages" in row else "conversations")(row)


def _is_prompt(row: RawRow) -> bool:
    """A string; next to a conversation that begins with it, it says nothing more than the conversation does."""
    if not all_text("prompt")(row):
        return False
    turns = next((row[name] for name in ("messages", "conversations") if name in row), None)
    whole = begins_with_user(turns) and isinstance(turns, list)
    said = [turn.get("content", turn.get("value")) for turn in turns] if whole and turns is not None else []
    return row["prompt"] not in said[:2]  # the first turn may be the system's


def _is_turns(row: RawRow) -> bool:
    return is_texts(row.get("turns"))


_NO_TASK = ANSWER_COLUMNS | {"instruction", "question", "prompt"}
_NO_LABEL = ANSWER_COLUMNS | {"label", "kto_tag"}

PROMPTS = (
    Format("prompt-text", "prompt", "text", ("prompt",), prompt_text, _is_prompt, ANSWER_COLUMNS),
    Format("prompt-chat", "prompt", "chat", ("prompt",), prompt_chat, all_chat("prompt"), ANSWER_COLUMNS),
    Format("input-text", "prompt", "text", ("input",), prompt_text, all_text("input"), _NO_TASK),
    Format("input-chat", "prompt", "chat", ("input",), prompt_chat, all_chat("input"), _NO_TASK),
    Format("text", "prompt", "text", ("text",), modelling_text, all_text("text"), ANSWER_COLUMNS),
    Format("messages", "prompt", "chat", ("messages|conversations",), modelling_chat, _is_chat, _NO_LABEL),
    Format("turns", "prompt", "chat", ("turns",), first_turn, _is_turns, _NO_LABEL | {"messages", "prompt"}),
)
