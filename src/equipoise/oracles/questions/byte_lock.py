"""Byte locks of a file between processes: many claims in one file; each ends with its process, however it ends.

POSIX locks ranges by `fcntl.lockf`, Windows by `msvcrt.locking`; both allow ranges beyond the end of the file, so the
file stays empty.
"""

from __future__ import annotations

import errno
import os
import sys
import threading

HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK))
PLACES = 2**31 - 1 if sys.platform == "win32" else 2**62  # Windows' call takes places of 31 bits
_seeking = threading.Lock()  # Windows locks at the position of the file, which threads share


def try_lock(file: int, place: int) -> bool:
    """Lock one byte of an open file. False if another process holds it; True where the system has no such locks."""
    try:
        _change(file, place % PLACES, take=True)
    except OSError as error:
        return error.errno not in HELD
    return True


def unlock(file: int, place: int) -> None:
    """Give back one byte."""
    _change(file, place % PLACES, take=False)


if sys.platform == "win32":

    def _change(file: int, place: int, *, take: bool) -> None:
        import msvcrt

        with _seeking:
            os.lseek(file, place, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK if take else msvcrt.LK_UNLCK, 1)

else:

    def _change(file: int, place: int, *, take: bool) -> None:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB if take else fcntl.LOCK_UN, 1, place)
