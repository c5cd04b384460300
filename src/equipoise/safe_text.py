"""Terminal-safe text: escapes what would steer a terminal or hide, in names and values that come from outside.

Prompts, column names, roles, file names and template errors may hold escape sequences (which set a title, clear the
screen or write the clipboard), bidirectional overrides (which reorder what is shown) or invisible characters. Whatever
of them is printed passes through `printable`.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import unicodedata

# C0 and C1 controls and DEL; marks of direction and their overrides; characters without width; separators that some
# terminals treat as a new line; lone surrogates, which cannot be encoded; tags, which are invisible ASCII.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_ANYWHERE = re.compile(f"[{_UNSAFE}]")
_IN_LINES = re.compile(f"(?!\n)[{_UNSAFE}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, most: int | None = None, lines: bool = False) -> str:
    r"""The text with every control, invisible and direction-changing character as its escape (\x1b, \u202e).

    most    the longest text that is shown whole; of a longer one the beginning, and how many characters follow
    lines   keep newlines: for a message of several lines, none of which comes from outside
    """
    if most is not None and len(text) > most:
        return f"{printable(text[:most], lines=lines)}... ({len(text) - most:,} more characters)"
    return (_IN_LINES if lines else _ANYWHERE).sub(_escape, text)


def hanging(line: str, indent: int) -> str:
    """A line for standard error: on a terminal in its width, what follows its first row under its words."""
    if not sys.stderr.isatty():
        return line
    width = max(40, shutil.get_terminal_size().columns - 1)
    return textwrap.fill(line, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def is_blank(text: str) -> bool:
    """Whether nothing of the text is seen: white space, controls, and characters without width or ink."""
    shown = text.strip()
    if not shown or (shown[0].isalnum() and shown[0] not in _NO_INK):
        return not shown
    return all(char.isspace() or char in _NO_INK or unicodedata.category(char) in _UNSEEN for char in shown)


_NO_INK = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # fillers of Hangul, and braille without dots
_UNSEEN = frozenset(("Cc", "Cf", "Mn", "Me"))  # a mark alone has nothing that it could stand on


def _escape(found: re.Match[str]) -> str:
    char = found.group()
    code = ord(char)
    if code < 0x100:
        return _SHORT.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
