"""The C library's heap, where it is glibc: freed memory is given back to the system.

Freed blocks of up to 32 MiB stay in the heap, which shrinks only at its end.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

M_MMAP_THRESHOLD, MAPPED = -3, 2**20  # of malloc.h; bytes from which a tensor is mapped on its own


def give_back() -> None:
    """Return what is free in the heap to the system.

    After a model was loaded and converted the heap may keep more than the weights that are held: 270 MiB beside a 4-bit
    base of 139 MiB (135M parameters).
    """
    _call("malloc_trim", 0)


def map_large_tensors() -> None:
    """Map every large tensor on its own from here on, and return it when it is freed; called before loading.

    Weights that are gathered, or dequantised, and let go leave the heap full of gaps otherwise: on a CPU a process that
    divides its weights would grow beyond one that does not, and a 4-bit base takes twice the memory.
    """
    _call("mallopt", M_MMAP_THRESHOLD, MAPPED)


def _call(name: str, *arguments: int) -> None:
    found: Any = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if found is not None:  # other C libraries have none
        found(*arguments)
