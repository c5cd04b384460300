"""Output files of a command: written whole or not at all, never over another file unless asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

STDOUT = "-"


class OutputExists(ValueError):
    """The file is there already; the message names it and the option that replaces it."""


def check_new(out: str, *, overwrite: bool) -> None:
    """Raises OutputExists if the file exists and may not be replaced. Call it before anything is read."""
    if out != STDOUT and Path(out).exists() and not overwrite:
        raise OutputExists(f"{out} exists: choose another name, or give --overwrite")


def write_new(out: str, lines: Iterable[str], *, overwrite: bool) -> int:
    """Write lines to a file, or to standard output for "-", and return how many. Raises OutputExists."""
    from equipoise.policy.files import whole

    check_new(out, overwrite=overwrite)
    if out == STDOUT:
        count = 0
        for line in lines:
            sys.stdout.write(line)
            count += 1
        return count
    with whole(Path(out)) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        count = 0
        for line in lines:
            file.write(line)
            count += 1
    return count
