"""A page of the documentation, run as a reader would run it.

A block whose first line is a comment with a file's name (`# judge.yaml`) becomes that file; the commands of `sh` blocks
run in a shell, one block after another, in one folder. Other blocks are shown and not run.

python tests/run_page.py FOLDER PAGE ... prints each command with its seconds, and ends at the first that fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w.-]+\.\w+)\b")


@dataclass(frozen=True)
class Ran:
    """A block of commands that ran: its text, exit code, seconds, and what it printed."""

    text: str
    code: int
    seconds: float
    said: str


def run_page(
    page: Path, folder: Path, *, instead: Mapping[str, str] | None = None, environment: Mapping[str, str]
) -> Iterator[Ran]:
    """Run a page's blocks in a folder, in order; text of the page is exchanged first, as `instead` says."""
    text = page.read_text(encoding="utf-8")
    for old, new in (instead or {}).items():
        text = text.replace(old, new)
    for language, block in BLOCK.findall(text):
        named = NAMED.match(block)
        if language != "sh":
            if named:
                (folder / named[1]).write_text(block, encoding="utf-8")
            continue
        begun = time.monotonic()
        done = subprocess.run(
            ["bash", "-ec", block],
            cwd=folder,
            env=dict(environment),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        yield Ran(block, done.returncode, time.monotonic() - begun, done.stdout)


def main(folder: str, *pages: str) -> int:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for page in pages:
        print(f"##### {page}", flush=True)
        for ran in run_page(Path(page), Path(folder), environment=os.environ):
            print(f"$ {ran.text}{ran.said}[exit {ran.code}, {ran.seconds:.0f} s]", flush=True)
            if ran.code:
                return ran.code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
