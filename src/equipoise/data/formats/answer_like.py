"""Columns that look like answers or like a preference among them: a file that has them is no list of prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from equipoise.data.formats.asked import ASKED, SYSTEM, is_texts
from equipoise.data.formats.columns import ANNOTATION_COLUMNS, MEDIA_COLUMNS, OPTIONAL_COLUMNS
from equipoise.data.formats.format import RawRow
from equipoise.data.formats.parse_values import shape


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


PREFERRED_WORDS = words(
    "chosen preferred prefer better best winner winning win accepted accept good positive pos selected"
)
OTHER_WORDS = words(
    "rejected dispreferred worse worst loser losing lose bad negative neg unpreferred declined reject"
)
ANSWER_WORDS = words(
    "response responses answer answers output outputs completion completions generation generations "
    "reply replies candidate candidates continuation option options summary summaries"
)
VERDICT_WORDS = words(
    "preference preferences winner choice vote votes verdict label labels rank ranks ranking rating "
    "ratings score scores reward rewards judgment judgement judgments better safer thumbs upvotes "
    "feedback kto pick preferred like liked prob probs probability desirable approved acceptable helpful correct"
)
# of a column about an answer, not the answer itself
ABOUT_WORDS = words(
    "source sources model models id ids name type length len tokens safe category language lang count "
    "num is time date hash url author"
)
_MARKS = words("a b c d 0 1 2 left right first second tie none both")
_WORD = re.compile(r"[a-z]+|[A-Z][a-z]*|\d+")
_SIDES = ({"0", "1"}, {"1", "2"}, {"a", "b"}, {"j", "k"}, {"left", "right"}, {"first", "second"}, {"x", "y"})
_LEAST_WORDS = 3


def words_of(name: str) -> list[str]:
    """The words of a column's name, in lower case: `response_0`, `responseA` and `humanRef A` have two."""
    return [word.lower() for word in _WORD.findall(name)]


def is_prose(value: Any) -> bool:
    """Whether a value is text, messages or a list of texts, and no identifier, short code or number."""
    if isinstance(value, str):
        return len(value.split()) >= _LEAST_WORDS or (len(value) >= 12 and not value.isascii())
    if isinstance(value, list | tuple) and value:
        return (shape(value) == "chat" and all(_is_turn(turn) for turn in value)) or (
            is_texts(value) and any(map(is_prose, value))
        )
    return _is_turn(value)


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and bool({"role", "from"} & set(value))


def answer_columns(rows: Sequence[RawRow], read: Iterable[str]) -> list[str]:
    """The columns, besides those that are read, which hold what looks like answers to the prompt.

    By name (`response_0`, `good`), by a partner whose name differs in one mark (`a` and `b`), or by content.
    """
    kept = frozenset((*read, *ASKED, *SYSTEM, *OPTIONAL_COLUMNS, *ANNOTATION_COLUMNS, *MEDIA_COLUMNS))
    names = dict.fromkeys(name for row in rows for name in row if name not in kept)
    texts = [name for name in names if _is_text(name, rows) and not _is_verdict(name, rows)]
    return [
        name
        for name in texts
        if _is_answer_name(name)
        or any(are_partners(name, other) for other in texts)
        or _is_prose_column(name, rows)
    ]


def names_a_side(name: str) -> bool:
    """Whether a column's name says that its answer is the better or the worse one."""
    return not set(words_of(name)).isdisjoint(PREFERRED_WORDS | OTHER_WORDS)


def _is_answer_name(name: str) -> bool:
    words = set(words_of(name))
    return bool(words & (ANSWER_WORDS | PREFERRED_WORDS | OTHER_WORDS)) and not words & ABOUT_WORDS


def _is_verdict(name: str, rows: Sequence[RawRow]) -> bool:
    """Whether every value is a mark or names a column: it says which answer, and is none."""
    values = {str(row[name]).strip().lower() for row in rows if row.get(name) is not None}
    columns = {column.lower() for row in rows for column in row}
    return values <= columns | _MARKS


def verdict_columns(rows: Sequence[RawRow], read: Iterable[str]) -> list[str]:
    """The columns with a number, a flag or a short word which look like a preference or a score."""
    kept = frozenset((*read, *OPTIONAL_COLUMNS, *ANNOTATION_COLUMNS))
    names = dict.fromkeys(name for row in rows for name in row if name not in kept)
    return [
        name
        for name in names
        if set(words_of(name)) & VERDICT_WORDS
        and "num" not in words_of(name)
        and any(isinstance(row.get(name), bool | int | float | str) for row in rows)
    ]


def are_partners(a: str, b: str) -> bool:
    """Whether two names differ in one mark only, such as 0 and 1, or A and B."""
    one, two = words_of(a), words_of(b)
    different = [{x, y} for x, y in zip(one, two, strict=False) if x != y]
    return len(one) == len(two) and len(different) == 1 and different[0] in _SIDES


def _is_text(name: str, rows: Sequence[RawRow]) -> bool:
    values = [row.get(name) for row in rows]
    return 2 * sum(isinstance(value, str) or is_prose(value) for value in values) >= len(values)


def _is_prose_column(name: str, rows: Sequence[RawRow]) -> bool:
    """Whether most values are prose, and not the same few in all rows."""
    values = [row.get(name) for row in rows]
    distinct = {str(value) for value in values if is_prose(value)}
    return 2 * sum(map(is_prose, values)) >= len(values) and 2 * len(distinct) >= min(len(values), 20)
