"""The error of a model that cannot be loaded or used."""

from __future__ import annotations


class ModelError(ValueError):
    """A model cannot be loaded or used; the message says why and what to do."""


def first_line(error: BaseException, most: int = 300) -> str:
    """First line of a foreign library's error, cut to a readable length; the error's type where it has no words.

    Of a missing key, all that a KeyError says is the key.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, KeyError) and lines:
        text = f"there is no {text}"
    return text if len(text) <= most else text[: most - 3] + "..."
