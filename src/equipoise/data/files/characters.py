"""Characters that no text has: NUL and lone surrogates, which tokenizers and files refuse later or change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.data.errors import Refusal


def bad_text(value: Any) -> Refusal | None:
    """The refusal of a value that has an invalid character in any of its strings, or None."""
    why = _bad(value)
    return Refusal("invalid characters", why) if why else None


def _bad(value: Any) -> str | None:
    if isinstance(value, str):
        if "\x00" in value:
            return "NUL character"
        if value.isascii():
            return None
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"lone surrogate U+{ord(value[error.start]):04X}"
        return None
    if isinstance(value, Mapping):
        return next((why for pair in value.items() for item in pair if (why := _bad(item))), None)
    if isinstance(value, list | tuple):
        return next((why for item in value if (why := _bad(item))), None)
    return None
