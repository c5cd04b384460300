"""What is said while a command loads PyTorch and transformers, which takes seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SAID = "loading PyTorch and transformers ..."


@contextmanager
def told() -> Iterator[None]:
    """Context manager around heavy imports: one line, which a terminal forgets once they are there."""
    if "torch" in sys.modules or int(os.environ.get("RANK", "0")):
        yield
        return
    live = sys.stderr.isatty()
    print(SAID, end="\r" if live else "\n", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if live:
            print(" " * len(SAID), end="\r", file=sys.stderr, flush=True)
