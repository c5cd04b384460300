"""Safe terminal output: the one place where everything that a command prints becomes harmless.

Texts from outside (prompts, columns, roles, file names, template errors) pass here whatever printed them: `print`, a
table, a warning or an option parser's message. What would steer a terminal or hide is escaped; what the character set
cannot hold is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from equipoise.safe_text import printable

# What rich and the progress lines write on a terminal: colours, cursor up, erase in line, cursor on or off, return.
_DRAWING = re.compile(r"(\x1b\[[0-9;]*[mAKG]|\x1b\[\?25[lh]|\r)")


class SafeStream:
    """A text stream that escapes controls, invisible characters and changes of direction; newlines stay.

    Only on a terminal, colours and movements of the cursor by lines pass too: the program draws with them there.
    Titles, the clipboard, clearing the screen and everything else that a text could ask of a terminal never pass.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.draws = stream.isatty()

    def write(self, text: str) -> int:
        # at odd places stand what _DRAWING found
        parts = _DRAWING.split(text) if self.draws else [text]
        safe = "".join(p if place % 2 else printable(p, lines=True) for place, p in enumerate(parts))
        self.stream.write(safe)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def safe_output() -> Iterator[None]:
    """Standard output and error are safe streams; the former ones are put back at the end."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(
            stream, "reconfigure"
        ):  # such as ASCII alone: a name in it must not end a finished command
            stream.reconfigure(errors="replace")
    sys.stdout, sys.stderr = (SafeStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
