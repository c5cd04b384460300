"""Memory that the C library holds on to after it was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return freed memory of the C library's heap to the system, where that library is glibc.

    Blocks of up to 32 MiB are freed into the heap, which shrinks only at its end. After a model was loaded and
    converted it may keep more than the weights that are held (270 MiB beside a 4-bit base of 139 MiB, 135M parameters).
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none
        trim(0)
