"""Every row format we read: one parser and one line of the table each.

To add a format, write a function `row, reading -> Record fields` and add one line to the table at the end. A
parser raises `Refusal` for a row it cannot use and never guesses. Columns it does not name end in `extra`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.formats.parse_values import Reading, label_of, messages_of, shape, text_of
from equipoise.data.formats.prompt_cut import (
    cut_conversations,
    cut_texts,
    is_transcript,
    shared_head,
    transcript,
)
from equipoise.data.formats.ranked import LISTS, Fields, Format, Row
from equipoise.data.records import Candidate, Context, Message, Space

_SHARED_WORDS = (
    "implicit text prompt, cut at the common head: words that both answers begin with are then part of the "
    "prompt. Harmless for pair losses that see only the difference, wrong for KTO, SPPO and SFT terms: give `prompt`"
)
# Columns every format understands; all others are kept in `extra`, unused.
OPTIONAL = ("id", "prob", "weight", "margin", "rationale", "tools", "chat_template_kwargs")
MEDIA = ("images", "image", "videos", "audios")
# Columns that hold an answer or a label: a file with one of them is no bare list of prompts or texts.
ANSWERS = frozenset(
    ("chosen", "rejected", "completion", "completions", "response", "responses", "output", "answers")
)
ANSWERS |= {"output_1", "output_2", "response1", "response2", "rejected_response", "conversation_a"}
ANSWERS |= {"conversation_b", "preferred_output", "non_preferred_output"}


_TRIPLE, _PAIR = ("prompt", "chosen", "rejected"), ("chosen", "rejected")
_UNPAIRED = ("prompt", "completion", "label")


def _shapes(row: Row, *names: str) -> tuple[str, ...]:
    return tuple(shape(row.get(name)) for name in names)


def _roles(value: Any) -> list[str]:
    turns = [value] if isinstance(value, Mapping) else value
    return [str(turn.get("role") or turn.get("from")) for turn in turns]


def _pair(context: Context, chosen: Context, rejected: Context, reading: Reading) -> Fields:
    if chosen == rejected:
        raise Refusal("chosen equals rejected")
    _check_answer(chosen, "chosen")
    _check_answer(rejected, "rejected", may_be_empty=reading.allow_empty_rejected)
    return {"context": context, "candidates": (Candidate(content=chosen), Candidate(content=rejected))}


def _check_answer(answer: Context, name: str, *, may_be_empty: bool = False) -> None:
    if isinstance(answer, str):
        text_of(answer, name, may_be_empty=may_be_empty)
        return
    if answer[-1].role != "assistant":
        raise Refusal("last turn is not the assistant's", f"{name} ends with {answer[-1].role}")
    if answer[0].role != "assistant":
        raise Refusal("an answer begins with another's turn", f"{name} begins with {answer[0].role}")
    if not may_be_empty and not (answer[-1].content.strip() or "tool_calls" in answer[-1].extra):
        raise Refusal(f"{name} is empty")


def pair_text(row: Row, reading: Reading) -> Fields:
    """`prompt`, `chosen`, `rejected`: three strings."""
    prompt, chosen = text_of(row.get("prompt"), "prompt"), text_of(row.get("chosen"), "chosen")
    rejected = text_of(row.get("rejected"), "rejected", may_be_empty=reading.allow_empty_rejected)
    return _pair(prompt, chosen, rejected, reading)


def pair_text_implicit(row: Row, reading: Reading) -> Fields:
    """`chosen`, `rejected`: two whole texts; the prompt is their common head."""
    reading.notes[_SHARED_WORDS] += 1
    chosen, rejected = text_of(row.get("chosen"), "chosen"), text_of(row.get("rejected"), "rejected")
    if chosen == rejected:
        raise Refusal("chosen equals rejected")
    return _pair(*cut_texts(chosen, rejected), reading)


def pair_transcript(row: Row, reading: Reading) -> Fields:
    """`chosen`, `rejected`: two transcripts (Human / Assistant) that differ in the last turn only."""
    chosen = transcript(text_of(row.get("chosen"), "chosen"), "chosen")
    rejected = transcript(text_of(row.get("rejected"), "rejected"), "rejected")
    if chosen[:-1] != rejected[:-1]:
        where = f"turn {shared_head(chosen, rejected)}; {len(chosen)} and {len(rejected)} turns"
        raise Refusal("the two transcripts differ before the last turn", where)
    return _pair(chosen[:-1], chosen[-1:], rejected[-1:], reading)


def pair_chat(row: Row, reading: Reading) -> Fields:
    """`prompt`, `chosen`, `rejected` at least one of them messages; strings are wrapped as turns."""
    context = _chat_context(row.get("prompt"), reading)
    chosen, rejected = (
        _without_context(_chat_answer(row.get(name), name, reading), context, name) for name in _PAIR
    )
    return _pair(context, chosen, rejected, reading)


def _chat_context(value: Any, reading: Reading) -> tuple[Message, ...]:
    if not isinstance(value, str):
        return messages_of(value, "prompt")
    reading.notes["string prompt wrapped as user turn"] += 1
    return (Message(role="user", content=text_of(value, "prompt")),)


def _chat_answer(value: Any, name: str, reading: Reading) -> tuple[Message, ...]:
    if not isinstance(value, str):
        return messages_of(value, name)
    reading.notes["string answer wrapped as assistant turn"] += 1
    return (Message(role="assistant", content=value),)


def _without_context(
    turns: tuple[Message, ...], context: tuple[Message, ...], name: str
) -> tuple[Message, ...]:
    """The answer alone, also where it repeats the whole context in front."""
    if turns[0].role == "assistant":
        return turns
    if turns[: len(context)] != context:
        raise Refusal("the answer repeats another prompt", f"{name} begins with {turns[0].role}")
    if len(turns) == len(context):
        raise Refusal(f"{name} adds nothing after the prompt")
    return turns[len(context) :]


def pair_chat_implicit(row: Row, reading: Reading) -> Fields:
    """`chosen`, `rejected`: two whole conversations, split at the first differing message."""
    chosen, rejected = (messages_of(row.get(name), name) for name in _PAIR)
    return _pair(*cut_conversations(chosen, rejected), reading)


def pair_chat_hybrid(row: Row, reading: Reading) -> Fields:
    """A string `prompt` beside two whole conversations whose first user turn repeats it."""
    prompt = text_of(row.get("prompt"), "prompt")
    sides = {name: messages_of(row.get(name), name) for name in _PAIR}
    for name, turns in sides.items():
        first = next((turn.content for turn in turns if turn.role == "user"), None)
        if first is None or first.strip() != prompt.strip():
            raise Refusal("the first user turn differs from `prompt`", name)
    return _pair(*cut_conversations(sides["chosen"], sides["rejected"]), reading)


def unpaired_text(row: Row, reading: Reading) -> Fields:
    """`prompt`, `completion`, `label`: one answer and thumbs up or down."""
    completion = text_of(row.get("completion"), "completion")
    return {
        "context": text_of(row.get("prompt"), "prompt"),
        "candidates": (Candidate(content=completion),),
        "desirable": label_of(row.get("label")),
    }


def unpaired_chat(row: Row, reading: Reading) -> Fields:
    """The same with message lists; strings are wrapped as turns."""
    context = _chat_context(row.get("prompt"), reading)
    answer = _without_context(
        _chat_answer(row.get("completion"), "completion", reading), context, "completion"
    )
    _check_answer(answer, "completion")
    return {
        "context": context,
        "candidates": (Candidate(content=answer),),
        "desirable": label_of(row.get("label")),
    }


def unpaired_messages(row: Row, reading: Reading) -> Fields:
    """`messages` (or `conversations`) that end with the answer, and `label` (or `kto_tag`): LLaMA-Factory's KTO."""
    name = "messages" if "messages" in row else "conversations"
    turns = messages_of(row.get(name), name)
    if turns[-1].role != "assistant":
        raise Refusal("last turn is not the assistant's", f"{name} ends with {turns[-1].role}")
    if len(turns) == 1:
        raise Refusal("no turn to answer")
    _check_answer(turns[-1:], name)
    return {
        "context": turns[:-1],
        "candidates": (Candidate(content=turns[-1:]),),
        "desirable": label_of(_thumb(row)),
    }


def unpaired_alpaca(row: Row, reading: Reading) -> Fields:
    """`instruction`, `output` and `label` (or `kto_tag`), perhaps `input`, `system`, `history`: LLaMA-Factory's KTO."""
    turns = [Message(role="system", content=row["system"])] if row.get("system") else []
    for question, answer in row.get("history") or ():
        turns += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    asked = text_of(row.get("instruction"), "instruction")
    if row.get("input"):
        asked += "\n" + text_of(row["input"], "input")
    answer = text_of(row.get("output"), "output")
    return {
        "context": (*turns, Message(role="user", content=asked)),
        "candidates": (Candidate(content=(Message(role="assistant", content=answer),)),),
        "desirable": label_of(_thumb(row)),
    }


def _thumb(row: Row) -> Any:
    return row.get("label", row.get("kto_tag"))


def unpaired_halos(row: Row, reading: Reading) -> Fields:
    """`prompt`, `output`, `label` with the `type` "binary_feedback": HALOs. Rows of another type are refused."""
    if row.get("type") != "binary_feedback":
        raise Refusal("type is not binary_feedback", repr(row.get("type")))
    output, found = row.get("output"), {"desirable": label_of(row.get("label"))}
    if isinstance(row.get("prompt"), str) and isinstance(output, str):
        content: Context = text_of(output, "output")
        return {
            "context": text_of(row.get("prompt"), "prompt"),
            "candidates": (Candidate(content=content),),
            **found,
        }
    answer = _chat_answer(output, "output", reading)
    _check_answer(answer, "output")
    context = _chat_context(row.get("prompt"), reading)
    return {"context": context, "candidates": (Candidate(content=answer),), **found}


def prompt_text(row: Row, reading: Reading) -> Fields:
    """`prompt` (or `input`): a string to answer."""
    name = "prompt" if "prompt" in row else "input"
    return {"context": text_of(row.get(name), name)}


def prompt_chat(row: Row, reading: Reading) -> Fields:
    """`prompt` (or `input`): messages to answer."""
    name = "prompt" if "prompt" in row else "input"
    return {"context": messages_of(row.get(name), name)}


def modelling_text(row: Row, reading: Reading) -> Fields:
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


def modelling_chat(row: Row, reading: Reading) -> Fields:
    """`messages`: prompt = the turns before the last assistant run, kept as extra["continuation"]."""
    turns = messages_of(row.get("messages"), "messages")
    end = len(turns)
    while end and turns[end - 1].role == "assistant":
        end -= 1
    if not end:
        raise Refusal("no turn to answer")
    reading.notes["prompts are the turns of `messages` before the last answer"] += 1
    return {"context": turns[:end], "extra": {"continuation": [turn.as_dict() for turn in turns[end:]]}}


def _is_text(*names: str) -> Callable[[Row], bool]:
    return lambda row: set(_shapes(row, *names)) == {"text"}


def _is_chat(*names: str) -> Callable[[Row], bool]:
    return lambda row: set(_shapes(row, *names)) == {"chat"}


def _is_wrappable(*names: str) -> Callable[[Row], bool]:
    def fits(row: Row) -> bool:
        shapes = set(_shapes(row, *names))
        return "chat" in shapes and "none" not in shapes and not _is_hybrid(row)

    return fits


def _is_hybrid(row: Row) -> bool:
    return _shapes(row, "prompt", "chosen", "rejected") == ("text", "chat", "chat") and all(
        {"user", "human"} & set(_roles(row[name])) for name in _PAIR
    )


def _has_thumb(row: Row) -> bool:
    return "label" in row or "kto_tag" in row


def _is_thumbed(name: str) -> Callable[[Row], bool]:
    return lambda row: _has_thumb(row) and _shapes(row, name) == ("chat",)


def _is_alpaca(row: Row) -> bool:
    return _has_thumb(row) and _is_text("instruction", "output")(row)


def _is_halos(space: Space) -> Callable[[Row], bool]:
    shapes = {"text"} if space == "text" else {"chat"}
    return lambda row: "type" in row and set(_shapes(row, "prompt")) == shapes


def _is_hh(row: Row) -> bool:
    return _is_text("chosen", "rejected")(row) and any(is_transcript(row[name]) for name in _PAIR)


def _is_implicit_text(row: Row) -> bool:
    return _is_text("chosen", "rejected")(row) and not _is_hh(row)


_NO_PROMPT = frozenset({"prompt", "messages", "conversations", "instruction", "question", "input"})
_PAIRED = frozenset({"rejected_response", "rejected_messages", "chosen", "rejected"})
_THUMB = frozenset({"label", "kto_tag"})
_HALOS = ("type", "prompt", "output", "label")
_NO_TASK = ANSWERS | {"instruction", "question", "prompt"}

_TABLE = (
    *LISTS,
    Format("pair-text", "pair", "text", _TRIPLE, pair_text, _is_text(*_TRIPLE)),
    Format("pair-chat", "pair", "chat", _TRIPLE, pair_chat, _is_wrappable(*_TRIPLE)),
    Format("pair-chat-hybrid", "pair", "chat", _TRIPLE, pair_chat_hybrid, _is_hybrid),
    Format("pair-text-implicit", "pair", "text", _PAIR, pair_text_implicit, _is_implicit_text, _NO_PROMPT),
    Format("pair-transcript", "pair", "chat", _PAIR, pair_transcript, _is_hh, _NO_PROMPT),
    Format("pair-chat-implicit", "pair", "chat", _PAIR, pair_chat_implicit, _is_chat(*_PAIR), _NO_PROMPT),
    Format("unpaired-text", "unary", "text", _UNPAIRED, unpaired_text, _is_text(*_UNPAIRED[:2])),
    Format("unpaired-chat", "unary", "chat", _UNPAIRED, unpaired_chat, _is_wrappable(*_UNPAIRED[:2])),
    Format(
        "unpaired-messages",
        "unary",
        "chat",
        ("messages",),
        unpaired_messages,
        _is_thumbed("messages"),
        _PAIRED,
    ),
    Format(
        "unpaired-conversations",
        "unary",
        "chat",
        ("conversations",),
        unpaired_messages,
        _is_thumbed("conversations"),
        _PAIRED,
    ),
    Format("unpaired-alpaca", "unary", "chat", ("instruction", "output"), unpaired_alpaca, _is_alpaca),
    Format("unpaired-halos", "unary", "text", _HALOS, unpaired_halos, _is_halos("text")),
    Format("unpaired-halos-chat", "unary", "chat", _HALOS, unpaired_halos, _is_halos("chat")),
    Format("prompt-text", "prompt", "text", ("prompt",), prompt_text, _is_text("prompt"), ANSWERS),
    Format("prompt-chat", "prompt", "chat", ("prompt",), prompt_chat, _is_chat("prompt"), ANSWERS),
    Format("input-text", "prompt", "text", ("input",), prompt_text, _is_text("input"), _NO_TASK),
    Format("input-chat", "prompt", "chat", ("input",), prompt_chat, _is_chat("input"), _NO_TASK),
    Format("text", "prompt", "text", ("text",), modelling_text, _is_text("text"), ANSWERS),
    Format(
        "messages", "prompt", "chat", ("messages",), modelling_chat, _is_chat("messages"), ANSWERS | _THUMB
    ),
)
FORMATS: dict[str, Format] = {entry.name: entry for entry in _TABLE}
