"""Formats of demonstrations: a prompt and the answer to imitate, without a judgement (supervised fine-tuning).

To add one, write its parser and one entry of DEMONSTRATIONS. Conversations (`messages`) are a format of prompts, whose
answers `data.demonstrations` takes up.
"""

from __future__ import annotations

from equipoise.data.formats.answers import (
    alpaca_turns,
    chat_answer,
    chat_prompt,
    check_answer,
    without_context,
)
from equipoise.data.formats.columns import all_text, some_chat
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.parse_values import Reading, text_of
from equipoise.data.records import Candidate


def demonstration_text(row: RawRow, reading: Reading) -> Fields:
    """`prompt` and `completion`: two strings."""
    answer = Candidate(content=text_of(row.get("completion"), "completion"))
    return {"context": text_of(row.get("prompt"), "prompt"), "candidates": (answer,)}


def demonstration_chat(row: RawRow, reading: Reading) -> Fields:
    """The same columns with messages in at least one; strings are wrapped as turns."""
    context = chat_prompt(row.get("prompt"), reading)
    answer = without_context(chat_answer(row.get("completion"), "completion", reading), context, "completion")
    check_answer(answer, "completion")
    return {"context": context, "candidates": (Candidate(content=answer),)}


def demonstration_alpaca(row: RawRow, reading: Reading) -> Fields:
    """`instruction` and `output`, perhaps `input`, `system`, `history`: Alpaca's layout."""
    context, answer = alpaca_turns(row)
    return {"context": context, "candidates": (Candidate(content=answer),)}


_COLUMNS = ("prompt", "completion")
_JUDGED = frozenset({"label", "kto_tag", "chosen", "rejected", "type", "completions", "rejected_response"})
_ALPACA = ("instruction", "output")

DEMONSTRATIONS = (
    Format(
        "demonstration-text",
        "demonstration",
        "text",
        _COLUMNS,
        demonstration_text,
        all_text(*_COLUMNS),
        _JUDGED,
    ),
    Format(
        "demonstration-chat",
        "demonstration",
        "chat",
        _COLUMNS,
        demonstration_chat,
        some_chat(*_COLUMNS),
        _JUDGED,
    ),
    Format(
        "demonstration-alpaca",
        "demonstration",
        "chat",
        _ALPACA,
        demonstration_alpaca,
        all_text(*_ALPACA),
        _JUDGED,
    ),
)
