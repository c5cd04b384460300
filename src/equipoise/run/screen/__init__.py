"""Screen of a run: live on a terminal, plain lines elsewhere; both are callbacks of its progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from equipoise.run.screen.live import LiveScreen
from equipoise.run.screen.plain import PlainLines
from equipoise.worlds.text.progress import Callback


@contextmanager
def screen(*, quiet: bool = False) -> Iterator[list[Callback]]:
    """Context manager: the callbacks that show a run; none if it is to be quiet."""
    if quiet:
        yield []
        return
    if not sys.stderr.isatty():
        yield [PlainLines()]
        return
    live = LiveScreen()
    try:
        yield [live]
    except BaseException:
        live.close(failed=True)
        raise
    live.close(failed=False)
