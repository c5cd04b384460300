"""Formats of preference pairs under the column names of other libraries and data sets.

To add one whose answers stand in two columns, add their names to ANSWERS; any other needs a parser and an entry.
"""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.data.errors import Refusal
from equipoise.data.formats.answers import chat_answer
from equipoise.data.formats.asked import (
    ASKED,
    Turns,
    asked_name,
    begins_with_user,
    checked,
    compared_turns,
    is_texts,
)
from equipoise.data.formats.columns import SIDES, shapes
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.layouts.judged import judged
from equipoise.data.formats.parse_values import Reading, json_of, messages_of, text_of, without_nulls
from equipoise.data.formats.prompt_cut import is_transcript
from equipoise.data.records import Candidate, Context

# (preferred, other): torchtune; Axolotl's argilla; stack-exchange-paired; answers under the names of their judgement
ANSWERS = (
    ("chosen_conversations", "rejected_conversations"),
    ("chosen_response", "rejected_response"),
    ("chosen_messages", "rejected_messages"),
    ("response_chosen", "response_rejected"),
    ("response_j", "response_k"),
    ("preferred", "dispreferred"),
)


def pair_of(context: Context, chosen: Context, rejected: Context) -> Fields:
    """Record fields of a pair. Refuses equal answers."""
    if chosen == rejected:
        raise Refusal("chosen equals rejected")
    return {"context": context, "candidates": (Candidate(content=chosen), Candidate(content=rejected))}


def _checked_pair(
    context: Turns, sides: tuple[Turns, Turns], names: tuple[str, str], reading: Reading
) -> Fields:
    chosen, rejected = sides
    checked(chosen, names[0], reading)
    checked(rejected, names[1], reading, may_be_empty=True)
    return pair_of(context, chosen, rejected)


def pair_question(row: RawRow, reading: Reading) -> Fields:
    """A question under any usual name with `chosen` and `rejected`: LLaMA-Factory, Axolotl, Orca pairs.

    `instruction` with `input` and `history`, `question`, `input`, or a conversation (`messages`, `conversations`,
    `context`); each answer is a string, one message, or messages.
    """
    context, *sides = compared_turns(row, SIDES, reading)
    return _checked_pair(context, (sides[0], sides[1]), SIDES, reading)


def pair_named(names: tuple[str, str]) -> Format:
    """The format of a pair whose answers stand in these two columns, with a question or as whole conversations."""

    def parse(row: RawRow, reading: Reading) -> Fields:
        context, *sides = compared_turns(row, names, reading)
        return _checked_pair(context, (sides[0], sides[1]), names, reading)

    def fits(row: RawRow) -> bool:
        return "none" not in shapes(row, *names) and (
            shapes(row, *names) == ("chat", "chat") or any(row.get(name) is not None for name in ASKED)
        )

    return Format(f"pair-{names[0].replace('_', '-')}", "pair", "chat", names, parse, fits, frozenset(SIDES))


def pair_openai(row: RawRow, reading: Reading) -> Fields:
    """`input` {messages, tools, parallel_tool_calls}, `preferred_output`, `non_preferred_output`: OpenAI's layout."""
    asked = row["input"]
    context = messages_of(asked.get("messages"), "input.messages")
    sides = tuple(chat_answer(row.get(name), name, reading) for name in _OPENAI)
    fields = _checked_pair(context, (sides[0], sides[1]), _OPENAI, reading)
    if asked.get("tools") not in (None, "", []):
        fields["tools"] = tuple(without_nulls(json_of(asked["tools"], "input.tools", list)))
    rest = {name: value for name, value in asked.items() if name not in ("messages", "tools")}
    return {**fields, "extra": rest}


def pair_ms_swift(row: RawRow, reading: Reading) -> Fields:
    """`messages` that end with the chosen answer, and `rejected_response` or `rejected_messages`: ms-swift."""
    turns = messages_of(row.get("messages"), "messages")
    end = next((i for i in range(len(turns), 0, -1) if turns[i - 1].role in ("user", "system")), 0)
    if not end:
        raise Refusal("no turn to answer")
    if end == len(turns):
        raise Refusal("last turn is not the assistant's", f"messages ends with {turns[-1].role}")
    context, chosen = turns[:end], turns[end:]
    name = next(name for name in _OTHER if name in row)
    if name == "rejected_messages":
        whole = messages_of(row.get(name), name)
        if whole[:end] != context:
            raise Refusal("the two sides answer different questions", name)
        rejected = whole[end:]
        if not rejected:
            raise Refusal(f"{name} adds nothing after the prompt")
    else:
        rejected = chat_answer(row.get(name), name, reading)
    return _checked_pair(context, (chosen, rejected), ("messages", name), reading)


def pair_lists(row: RawRow, reading: Reading) -> list[Fields]:
    """`prompt`, lists of `chosen` and of `rejected` strings: every chosen with every rejected one (RewardBench 2)."""
    prompt = text_of(row.get("prompt"), "prompt")
    sides: dict[str, list[str]] = {}
    for name in SIDES:
        sides[name] = [text for text in row[name] if text.strip()]
        if len(sides[name]) < len(row[name]):
            reading.notes[f"an empty answer in a list of {name} answers is left out"] += 1
        if not sides[name]:
            raise Refusal(f"{name} is empty")
    pairs = [(a, b) for a in dict.fromkeys(sides["chosen"]) for b in dict.fromkeys(sides["rejected"])]
    reading.notes["lists of chosen and rejected answers: every chosen one with every rejected one"] += 1
    return [pair_of(prompt, chosen, rejected) for chosen, rejected in pairs]


def _is_question(row: RawRow) -> bool:
    found = shapes(row, *SIDES)
    name = asked_name(row)
    if "none" in found or name is None or not (is_texts(row[name]) or shapes(row, name) != ("none",)):
        return False
    if found == ("text", "text"):
        return not any(is_transcript(row[side]) for side in SIDES)
    # whole conversations say their question themselves; only a column that is surely a question must then agree
    return name not in ("context", "history", "conversation") or not all(
        begins_with_user(row[n]) for n in SIDES
    )


def _is_openai(row: RawRow) -> bool:
    return isinstance(row.get("input"), Mapping) and "none" not in shapes(row, *_OPENAI)


def _is_ms_swift(row: RawRow) -> bool:
    return shapes(row, "messages") == ("chat",) and any(shapes(row, name) != ("none",) for name in _OTHER)


def _is_lists(row: RawRow) -> bool:
    return isinstance(row.get("prompt"), str) and all(is_texts(row.get(name)) for name in SIDES)


_OPENAI = ("preferred_output", "non_preferred_output")
_OTHER = ("rejected_response", "rejected_messages")
_QUESTION = "|".join(name for name in ASKED if name != "prompt")

NAMED_PAIRS = tuple(
    judged(entry)
    for entry in (
        Format(
            "pair-question",
            "pair",
            "chat",
            (_QUESTION, *SIDES),
            pair_question,
            _is_question,
            frozenset({"prompt"}),
        ),
        Format("pair-openai", "pair", "chat", ("input", *_OPENAI), pair_openai, _is_openai),
        Format(
            "pair-ms-swift",
            "pair",
            "chat",
            ("messages", "|".join(_OTHER)),
            pair_ms_swift,
            _is_ms_swift,
            frozenset({"chosen_response", "chosen_messages"}),
        ),
        Format("pair-lists", "pair", "text", ("prompt", *SIDES), pair_lists, _is_lists),
        *map(pair_named, ANSWERS),
    )
)
