"""JSON values with what `json` passes over: duplicate keys, depth, numbers without bound."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from equipoise.data.errors import Refusal
from equipoise.data.files.bounds import COLUMNS, DEPTH, DIGITS
from equipoise.data.files.characters import bad_text

TOO_DEEP = f"nested more than {DEPTH} levels deep"
_TOKEN = re.compile(r'"(?:[^"\\]+|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class JsonValues:
    """A JSON decoder that says what is wrong with a value which `json` would take: one, for one file."""

    def __init__(self) -> None:
        self._flaw: Refusal | None = None
        decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_int=self._int)
        self._decode, self._scan = decoder.decode, decoder.raw_decode

    def whole(self, text: str) -> Any:
        """The value that the text is, or a Refusal of it. Raises JSONDecodeError for broken JSON."""
        if text.count("[") + text.count("{") > DEPTH and end_of(text, 0)[1] > DEPTH:
            return Refusal(TOO_DEEP)
        self._flaw = None
        return self._checked(self._decode(text), "\\u" in text)

    def at(self, text: str, start: int) -> tuple[Any, int]:
        """(the value that begins at `start` or a Refusal of it, where it ends). Raises JSONDecodeError."""
        self._flaw = None
        try:
            value, end = self._scan(text, start)
        except RecursionError:
            end, _ = end_of(text, start)
            if end < 0:
                raise json.JSONDecodeError("Expecting the end of a value", text, len(text)) from None
            return Refusal(TOO_DEEP), end
        if end - start > 2 * DEPTH and depth(value) > DEPTH:
            return Refusal(TOO_DEEP), end
        return self._checked(value, text.find("\\u", start, end) >= 0), end

    def _checked(self, value: Any, escapes: bool) -> Any:
        """The value, or what is wrong with it; only escapes can write a character that no text has."""
        if self._flaw:
            return self._flaw
        if isinstance(value, dict) and len(value) > COLUMNS:
            return Refusal(f"more than {COLUMNS:,} columns", f"{len(value):,}")
        return (bad_text(value) if escapes else None) or value

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
            self._flaw = Refusal("a key occurs twice", repr(name))
        return made

    def _int(self, digits: str) -> int:
        if len(digits) > DIGITS:
            self._flaw = Refusal(f"a whole number has more than {DIGITS} digits", f"{len(digits):,} digits")
            return 0
        return int(digits)


def end_of(text: str, start: int) -> tuple[int, int]:
    """(where the list or object that begins at `start` ends, or -1; how deep it is), by its brackets alone."""
    level = deepest = 0
    for found in _TOKEN.finditer(text, start):
        mark = found.group()[0]
        if mark in "[{":
            level += 1
            deepest = max(deepest, level)
        elif mark in "]}":
            level -= 1
            if level <= 0:
                return found.end(), deepest
    return -1, deepest


def depth(value: Any) -> int:
    """How many lists and objects are inside each other, counted to DEPTH + 1."""
    layer, level = [value] if isinstance(value, dict | list) else [], 0
    while layer and level <= DEPTH:
        level += 1
        layer = [
            item
            for outer in layer
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
    return level
