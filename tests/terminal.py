"""A terminal for tests: runs a command in a pty of a given width, and keeps what its screen showed and when.

python tests/terminal.py WIDTH COMMAND ... prints the screens, one for each second in which something changed.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator, Sequence

_PART = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Screen:
    """The lines of a terminal: text, return, newline, cursor up, erase in line; colours are dropped."""

    def __init__(self, width: int) -> None:
        self.width, self.lines, self.row, self.column = width, [""], 0, 0

    def feed(self, text: str) -> None:
        for found in _PART.finditer(text):
            numbers, letter, back, new, plain = found.groups()
            if back:
                self.column = 0
            elif new:
                self.row, self.column = self.row + 1, 0
                if self.row == len(self.lines):
                    self.lines.append("")
            elif plain:
                for char in plain:
                    self._put(char)
            elif letter == "A":
                self.row = max(0, self.row - int(numbers or 1))
            elif letter == "K":
                self.lines[self.row] = "" if numbers == "2" else self.lines[self.row][: self.column]

    def _put(self, char: str) -> None:
        if self.column == self.width:
            self.feed("\n")
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
        self.column += 1

    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


def watch(command: Sequence[str], width: int, pause: float = 1.0) -> Iterator[tuple[float, str]]:
    """(seconds, screen) whenever `pause` has passed and something changed, and at the end."""
    begun, screen, last = time.monotonic(), Screen(width), 0.0
    child, master = pty.fork()
    if child == 0:
        os.execvp(command[0], list(command))
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    rest = b""
    while True:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                got = os.read(master, 65536)
            except OSError:
                got = b""
            if not got:
                break
            rest += got
            try:
                text, rest = rest.decode(), b""
            except UnicodeDecodeError:
                continue
            screen.feed(text)
        now = time.monotonic() - begun
        if now - last > pause:
            last = now
            yield now, screen.shown()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    yield time.monotonic() - begun, f"{screen.shown()}\n[exit {status}]"


if __name__ == "__main__":
    for at, shown in watch(sys.argv[2:], int(sys.argv[1])):
        print(f"--- {at:.0f} s\n{shown}", flush=True)
