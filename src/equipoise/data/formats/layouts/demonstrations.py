"""Formats of demonstrations: a prompt and the answer to imitate, without a judgement (supervised fine-tuning).

To add one, write its parser and one entry of DEMONSTRATIONS. Conversations (`messages`) are a format of prompts, whose
answers `data.demonstrations` takes up.
"""

from __future__ import annotations

from collections.abc import Callable

from equipoise.data.formats.answers import chat_answer, chat_prompt, check_answer, without_context
from equipoise.data.formats.asked import asked_turns
from equipoise.data.formats.columns import all_text, some_chat
from equipoise.data.formats.format import Fields, Format, RawRow
from equipoise.data.formats.parse_values import Reading, text_of
from equipoise.data.records import Candidate


def demonstration_text(row: RawRow, reading: Reading) -> Fields:
    """`prompt` and `completion`: two strings."""
    name = _answer_name(row)
    answer = Candidate(content=text_of(row.get(name), name))
    return {"context": text_of(row.get("prompt"), "prompt"), "candidates": (answer,)}


def demonstration_chat(row: RawRow, reading: Reading) -> Fields:
    """The same columns with messages in at least one; strings are wrapped as turns."""
    context = chat_prompt(row.get("prompt"), reading)
    name = _answer_name(row)
    answer = without_context(chat_answer(row.get(name), name, reading), context, name)
    check_answer(answer, name)
    return {"context": context, "candidates": (Candidate(content=answer),)}


def demonstration_alpaca(row: RawRow, reading: Reading) -> Fields:
    """`instruction` (or `question`, `query`) and `output`, perhaps `input`, `system`, `history`: Alpaca's layout."""
    context = asked_turns(row, reading)
    name = _answer_name(row)
    answer = without_context(chat_answer(row.get(name), name, reading), context, name)
    check_answer(answer, name)
    return {"context": context, "candidates": (Candidate(content=answer),)}


def _answer_name(row: RawRow) -> str:
    return next(name for name in _ANSWERS if name in row)


def _is_text(*questions: str) -> Callable[[RawRow], bool]:
    """The test that one of these columns, and an answer, hold strings."""

    def fits(row: RawRow) -> bool:
        names = [next((n for n in group if n in row), "") for group in (questions, _ANSWERS)]
        return all_text(*names)(row)

    return fits


def _is_chat(row: RawRow) -> bool:
    return some_chat("prompt", _answer_name(row))(row)


_ANSWERS = ("completion", "response", "output", "answer")
_COLUMNS = ("prompt", "completion|response|output")
_JUDGED = frozenset({"label", "kto_tag", "chosen", "rejected", "type", "completions", "rejected_response"})
_JUDGED |= {"helpfulness", "responses", "answers", "generations"}
_ALPACA = ("instruction|question|query", "|".join(_ANSWERS[1:]))

DEMONSTRATIONS = (
    Format(
        "demonstration-text",
        "demonstration",
        "text",
        _COLUMNS,
        demonstration_text,
        _is_text("prompt"),
        _JUDGED,
    ),
    Format(
        "demonstration-chat",
        "demonstration",
        "chat",
        _COLUMNS,
        demonstration_chat,
        _is_chat,
        _JUDGED,
    ),
    Format(
        "demonstration-alpaca",
        "demonstration",
        "chat",
        _ALPACA,
        demonstration_alpaca,
        _is_text("instruction", "question", "query"),
        _JUDGED | {"prompt"},
    ),
)
