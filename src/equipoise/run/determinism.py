"""Reproducibility on a CPU: the same command writes the same bytes, with any fixed number of threads.

Floating-point addition is not associative, so a sum's last bit depends on its order. The order must therefore be a
function of the run's inputs, and never of which thread arrives first, of how busy the machine is, or of what the
process did before. `make_reproducible` sees to the process-wide settings on which that depends; it is called once,
when a run starts, because all of them belong to the process and not to a tensor.
"""

from __future__ import annotations

import ctypes
import logging

import torch

log = logging.getLogger(__name__)

PER_THREAD = 2**15  # elements: torch gives an elementwise operation one more thread for each
DENORMAL = 1 << 19  # bits of a float32 too small for the normal format
OMP_PAUSE_HARD = 2


def make_reproducible() -> bool:
    """Deterministic algorithms, a fixed number of threads, and one floating-point mode in all of them, on a CPU.

    - Operations that add to one place from several threads take torch's deterministic algorithm. The gradient of
      `states[places]` is one: where places repeat (the responses of a prompt share its last token), threads add to a
      row in the order in which they arrive. Alone the order rarely varies; on a busy machine it often does.
    - The number of threads stays what it is now: neither OpenMP nor MKL may take fewer when the machine is busy.
    - Denormal floats are flushed to 0 in every thread (a saturated pair's gradient is full of them, and a CPU
      computes with them many times slower). The setting belongs to a thread, and a thread inherits it when it is
      started. Threads that an earlier computation left waiting are therefore ended, and start anew.

    Returns whether all threads flush; where they do not, a warning is logged: numbers are right, but may differ in
    the last bit from a run in another process.
    """
    if not torch.are_deterministic_algorithms_enabled():
        # in warn-only mode: on a CPU every operation of a run has such an algorithm, a foreign model's may not
        torch.use_deterministic_algorithms(True, warn_only=True)
        # a debugging aid, which costs time; torch's types do not know the module's attribute
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    _openmp("omp_set_dynamic", 0)
    torch.set_num_threads(torch.get_num_threads())  # from now on MKL uses this number instead of choosing one
    if not torch.set_flush_denormal(True):
        return True  # a processor without the mode: no thread has it
    if not all_threads_flush():
        _openmp("omp_pause_resource_all", OMP_PAUSE_HARD)
    if not all_threads_flush():
        log.warning("some threads keep denormal floats: start the run in a process of its own")
        return False
    return True


def all_threads_flush() -> bool:
    """Whether every thread of torch's pool flushes denormal floats to 0: a product in which each has a share."""
    denormal = torch.full((PER_THREAD * torch.get_num_threads(),), DENORMAL, dtype=torch.int32)
    return not bool(denormal.view(torch.float32).mul(1.0).view(torch.int32).any())


def _openmp(function: str, argument: int) -> None:
    """Call a function of the OpenMP library that torch has loaded, if it has one (Windows' torch does not share it)."""
    try:
        call = getattr(ctypes.CDLL(None), function)
    except (AttributeError, TypeError, OSError):
        return
    call.argtypes = [ctypes.c_int]
    call(argument)
