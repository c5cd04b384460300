"""The turns before an answer, from whichever columns a layout keeps them in: question, history, conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.files.json_values import JsonValues
from equipoise.data.formats.answers import chat_answer, check_answer, without_context
from equipoise.data.formats.format import RawRow
from equipoise.data.formats.parse_values import Reading, messages_of, shape, text_of
from equipoise.data.formats.prompt_cut import cut_conversations, transcript
from equipoise.data.formats.roles import is_role
from equipoise.data.records import Message

ASKED = (
    *("prompt", "instruction", "question", "query", "input", "messages", "conversations", "conversation"),
    *("context", "history"),
)
ASKED_COLUMN = "|".join(ASKED)
SYSTEM = ("system", "system_prompt", "system_message")

Turns = tuple[Message, ...]


def asked_turns(row: RawRow, reading: Reading) -> Turns:
    """The turns before the answer: the first of the columns ASKED that is there, after `history`, without `system`.

    `input` (or a string `context`) continues the text of `instruction` or `question` on a new line. Raises Refusal.
    """
    name = asked_name(row)
    if name is None:
        raise Refusal("no prompt", f"none of {', '.join(ASKED)}")
    turns = conversation(row[name], name, reading)
    if name in ("instruction", "question") and isinstance(row[name], str):
        more = next(
            (row[n] for n in ("input", "context") if isinstance(row.get(n), str) and row[n].strip()), ""
        )
        turns = (
            *turns[:-1],
            replace(turns[-1], content=f"{turns[-1].content}\n{more}" if more else turns[-1].content),
        )
    return turns if name == "history" else (*past_turns(row.get("history")), *turns)


def asked_name(row: RawRow) -> str | None:
    """The column that holds the question: the first of ASKED that is there and not null."""
    return next((name for name in ASKED if name in row and row[name] is not None), None)


def conversation(value: Any, name: str, reading: Reading) -> Turns:
    """The turns of one column.

    value   a string (one user turn, or a transcript with Human and Assistant), a list of strings (user and assistant
            in turn), messages, or an object with `messages`, `full_text` or `text`.
    """
    if isinstance(value, Mapping) and not {"role", "from"} & set(value):
        inner = next((key for key in ("messages", "full_text", "text") if value.get(key) is not None), None)
        if inner is None:
            raise Refusal(f"{name} has neither messages nor text", ", ".join(map(str, value)))
        return conversation(value[inner], f"{name}.{inner}", reading)
    if isinstance(value, str):
        if value.startswith("\n\nHuman:"):  # a transcript, perhaps with the answer's turn opened
            return transcript(value.rstrip().removesuffix("Assistant:"), name, answered=False)
        reading.notes["string prompt wrapped as user turn"] += 1
        return (Message(role="user", content=text_of(value, name)),)
    if is_texts(value):
        return in_turn([text_of(said, f"{name}[{i}]") for i, said in enumerate(value)])
    return messages_of(value, name)


def in_turn(texts: Sequence[str], first: str = "user") -> Turns:
    """Texts as the turns of two speakers who alternate."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(texts))


def past_turns(history: Any) -> Turns:
    """Earlier turns: `history`, a list of [question, answer]."""
    if history in (None, "", []):
        return ()
    pairs = history if isinstance(history, list | tuple) else [history]
    if not all(is_texts(pair) and len(pair) == 2 for pair in pairs):
        raise Refusal("history is not a list of [question, answer]", repr(history)[:60])
    return tuple(turn for pair in pairs for turn in in_turn(pair))


def is_texts(value: Any) -> bool:
    """Whether a value is a list of strings, not empty."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)


def begins_with_user(value: Any) -> bool:
    """Whether a value is a conversation whose first turn is not the assistant's."""
    turns = [value] if isinstance(value, Mapping) else value
    return (
        shape(value) == "chat"
        and bool(turns)
        and not is_role(turns[0].get("role", turns[0].get("from")), "assistant")
    )


def decoded(value: Any) -> Any:
    """A list of strings or messages that is written as JSON in a string, as in CSV; any other value as it is.

    Raises Refusal for JSON that no row may hold: nested without bound, a key twice.
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        found = JsonValues().whole(value)
    except ValueError:
        return value
    if isinstance(found, Refusal):
        raise Refusal(found.reason, "JSON in a text" + (f": {found.detail}" if found.detail else ""))
    return found if is_texts(found) or (found and shape(found) == "chat") else value


def compared_turns(row: RawRow, names: tuple[str, str], reading: Reading) -> tuple[Turns, Turns, Turns]:
    """(turns before the answers, first answer, second answer) of two columns that hold answers.

    Whole conversations are split at the first message that differs; a prompt that is there too must begin them.
    """
    first, second = sides = [decoded(row.get(name)) for name in names]
    prompt = asked_name(row)
    questions = decoded(row[prompt]) if prompt else None
    if is_texts(questions) and is_texts(first) and is_texts(second):
        return _by_turns(questions, first, second, names)
    if all(shape(side) == "chat" and side for side in sides):
        whole = [messages_of(side, name) for side, name in zip(sides, names, strict=True)]
        if all(turns[0].role != "assistant" for turns in whole):
            context, *answers = cut_conversations(whole[0], whole[1])
            _same_question(row, context, whole, reading)
            return context, answers[0], answers[1]
    context = asked_turns(row, reading)
    a, b = (
        without_context(chat_answer(side, name, reading), context, name)
        for side, name in zip(sides, names, strict=True)
    )
    return context, a, b


def _same_question(row: RawRow, shared: Turns, whole: Sequence[Turns], reading: Reading) -> None:
    """Refuses whole conversations that do not begin as the prompt column says (where it holds one of the two, it may
    end as that one does)."""
    name = asked_name(row)
    if name is None:
        return
    said = conversation(row[name], name, reading)
    first = next((turn.content for turn in shared if turn.role == "user"), "")
    one_text = isinstance(row[name], str) and said[0].content.strip() == first.strip()
    if not one_text and said[: len(shared)] != shared and said not in whole:
        raise Refusal("the answer repeats another prompt", f"the conversations do not begin as {name} does")


def _by_turns(questions: Any, first: Any, second: Any, names: tuple[str, str]) -> tuple[Turns, Turns, Turns]:
    """Lists of turns: the questions, and as many answers on each side."""
    for name, said in zip(names, (first, second), strict=True):
        if len(said) != len(questions):
            raise Refusal(f"{len(questions)} questions with {len(said)} answers", name)
    a, b = (
        in_turn([text for pair in zip(questions, said, strict=True) for text in pair])
        for said in (first, second)
    )
    context, *sides = cut_conversations(a, b)
    return context, sides[0], sides[1]


def checked(answer: Turns, name: str, reading: Reading, *, may_be_empty: bool = False) -> Turns:
    """The answer, which must be the assistant's and say something."""
    check_answer(answer, name, may_be_empty=may_be_empty and reading.allow_empty_rejected)
    return answer
