"""Keeper of a server process: runs a command, and ends it and all its children when whoever began it is gone.

Run as a script, of the standard library alone: `python keeper.py COMMAND ...`. It ends the command when its
standard input closes, which happens when the process at the other end is done or was killed, however that was.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

PATIENCE = 20.0  # seconds between asking to end and ending


def main() -> int:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: stop(child))

    def watch() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock a thread would hold when this process ends
            pass
        stop(child)

    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    _signal(child.pid, signal.SIGKILL)  # what it has left behind
    return status


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask the command's process group to end, and end it if it does not."""
    _signal(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(child.pid, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
