"""Formats of preference pairs: a chosen and a rejected answer, with or without a separate prompt.

To add one, write its parser and one entry of PAIRS.
"""

from __future__ import annotations

from equipoise.data.errors import Refusal
from equipoise.data.formats.answers import chat_answer, chat_prompt, check_answer, without_context
from equipoise.data.formats.columns import SIDES, all_chat, all_text, is_hybrid, some_chat
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.layouts.judged import judged
from equipoise.data.formats.parse_values import Reading, messages_of, text_of
from equipoise.data.formats.prompt_cut import (
    common_prefix,
    cut_conversations,
    cut_texts,
    is_transcript,
    transcript,
)
from equipoise.data.records import Candidate, Context

_SHARED_WORDS = (
    "implicit text prompt, cut at the common prefix: words that both answers begin with are then part of the "
    "prompt. Harmless for pair losses that see only the difference, wrong for KTO, SPPO and SFT terms: give `prompt`"
)


def _pair(context: Context, chosen: Context, rejected: Context, reading: Reading) -> Fields:
    if chosen == rejected:
        raise Refusal("chosen equals rejected")
    check_answer(chosen, "chosen")
    check_answer(rejected, "rejected", may_be_empty=reading.allow_empty_rejected)
    return {"context": context, "candidates": (Candidate(content=chosen), Candidate(content=rejected))}


def pair_text(row: RawRow, reading: Reading) -> Fields:
    """`prompt`, `chosen`, `rejected`: three strings."""
    prompt, chosen = text_of(row.get("prompt"), "prompt"), text_of(row.get("chosen"), "chosen")
    rejected = text_of(row.get("rejected"), "rejected", may_be_empty=reading.allow_empty_rejected)
    return _pair(prompt, chosen, rejected, reading)


def pair_text_implicit(row: RawRow, reading: Reading) -> Fields:
    """`chosen`, `rejected`: two whole texts; the prompt is their common prefix."""
    reading.notes[_SHARED_WORDS] += 1
    chosen, rejected = text_of(row.get("chosen"), "chosen"), text_of(row.get("rejected"), "rejected")
    if chosen == rejected:
        raise Refusal("chosen equals rejected")
    return _pair(*cut_texts(chosen, rejected), reading)


def pair_transcript(row: RawRow, reading: Reading) -> Fields:
    """`chosen`, `rejected`: two transcripts (Human / Assistant) that differ in the last turn only."""
    chosen = transcript(text_of(row.get("chosen"), "chosen"), "chosen")
    rejected = transcript(text_of(row.get("rejected"), "rejected"), "rejected")
    if chosen[:-1] != rejected[:-1]:
        where = f"turn {common_prefix(chosen, rejected)}; {len(chosen)} and {len(rejected)} turns"
        raise Refusal("the two transcripts differ before the last turn", where)
    return _pair(chosen[:-1], chosen[-1:], rejected[-1:], reading)


def pair_chat(row: RawRow, reading: Reading) -> Fields:
    """`prompt`, `chosen`, `rejected`, at least one of them messages; strings are wrapped as turns."""
    context = chat_prompt(row.get("prompt"), reading)
    chosen, rejected = (
        without_context(chat_answer(row.get(name), name, reading), context, name) for name in SIDES
    )
    return _pair(context, chosen, rejected, reading)


def pair_chat_implicit(row: RawRow, reading: Reading) -> Fields:
    """`chosen`, `rejected`: two whole conversations, split at the first differing message."""
    chosen, rejected = (messages_of(row.get(name), name) for name in SIDES)
    return _pair(*cut_conversations(chosen, rejected), reading)


def pair_chat_hybrid(row: RawRow, reading: Reading) -> Fields:
    """A string `prompt`, and two whole conversations whose first user turn repeats it."""
    prompt = text_of(row.get("prompt"), "prompt")
    sides = {name: messages_of(row.get(name), name) for name in SIDES}
    for name, turns in sides.items():
        first = next((turn.content for turn in turns if turn.role == "user"), None)
        if first is None or first.strip() != prompt.strip():
            raise Refusal("the first user turn differs from `prompt`", name)
    return _pair(*cut_conversations(sides["chosen"], sides["rejected"]), reading)


def _is_transcript(row: RawRow) -> bool:
    return all_text(*SIDES)(row) and any(is_transcript(row[name]) for name in SIDES)


def _is_implicit_text(row: RawRow) -> bool:
    return all_text(*SIDES)(row) and not _is_transcript(row)


_TRIPLE = ("prompt", *SIDES)
_NO_PROMPT = frozenset({"prompt", "messages", "conversations", "instruction", "question", "query", "input"})

PAIRS = tuple(
    judged(entry)
    for entry in (
        Format("pair-text", "pair", "text", _TRIPLE, pair_text, all_text(*_TRIPLE)),
        Format("pair-chat", "pair", "chat", _TRIPLE, pair_chat, some_chat(*_TRIPLE)),
        Format("pair-chat-hybrid", "pair", "chat", _TRIPLE, pair_chat_hybrid, is_hybrid),
        Format(
            "pair-text-implicit",
            "pair",
            "text",
            SIDES,
            pair_text_implicit,
            _is_implicit_text,
            _NO_PROMPT,
            cuts_prompt=True,
        ),
        Format("pair-transcript", "pair", "chat", SIDES, pair_transcript, _is_transcript, _NO_PROMPT),
        Format("pair-chat-implicit", "pair", "chat", SIDES, pair_chat_implicit, all_chat(*SIDES), _NO_PROMPT),
    )
)
