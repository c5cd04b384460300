"""Output files of a command: written whole or not at all, never over another file unless asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

STDOUT = "-"


class OutputExists(ValueError):
    """The file is there already; the message names it and the option that replaces it."""


def check_new(*outs: str, overwrite: bool) -> None:
    """Raises OutputExists for a folder, and for a file that may not be replaced. Call it before anything is read."""
    for out in outs:
        if out != STDOUT and Path(out).is_dir():
            raise OutputExists(f"{out} is a folder: name a file")
        if out != STDOUT and Path(out).exists() and not overwrite:
            raise OutputExists(f"{out} exists: choose another name, or give --overwrite")
    if len(set(outs)) < len(outs):
        raise OutputExists(f"{outs[0]} is named twice: each part needs a file of its own")


def write_new(*files: tuple[str, Iterable[str]], overwrite: bool) -> Sequence[int]:
    """Write the lines of every file, all files or none; "-" is standard output. Returns how many lines each has.

    Raises OutputExists.
    """
    from equipoise.policy.files import whole

    check_new(*(out for out, _ in files), overwrite=overwrite)
    counts = []
    with ExitStack() as drafts:
        for out, lines in files:
            if out == STDOUT:
                write = sys.stdout.write
            else:
                draft = drafts.enter_context(whole(Path(out)))
                write = drafts.enter_context(draft.open("w", encoding="utf-8", newline="\n")).write
            count = 0
            for line in lines:
                write(line)
                count += 1
            counts.append(count)
    return counts
