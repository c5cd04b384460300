"""The same bytes from the same command: what a run fixes in its process before it computes.

Threads and floating-point modes belong to a process, so each case is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from equipoise.run.determinism import all_threads_flush, make_reproducible

THREADS = 4  # more than there may be cores: which of them arrives first is then a matter of chance

# two rows of a sum over many addends of mixed sizes, whose order shows in the last bit
ADDENDS = """
torch.manual_seed(0)
rows, places = torch.randn(4096, 96) * torch.logspace(-4, 4, 96), torch.arange(4096) % 2
states = torch.zeros(2, 96, requires_grad=True)
def gradient():
    states.grad = None
    states[places].backward(rows)
    return states.grad
"""


def python(program: str, **environment: str) -> str:
    """What a program prints, in a process of its own with `THREADS` threads."""
    done = subprocess.run(
        [sys.executable, "-c", f"import torch\ntorch.set_num_threads({THREADS})\n{program}"],
        check=False,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.slow
def test_the_gradient_of_repeated_places_has_one_value():
    """Without the call threads add to the rows in the order of arrival: addends and rows are such that it shows."""
    program = f"""{ADDENDS}
def values():
    return len({{gradient().numpy().tobytes() for _ in range(200)}})
from equipoise.run.determinism import make_reproducible
make_reproducible()
in_order = torch.zeros(2, 96)
for place, row in zip(places.tolist(), rows):
    in_order[place] += row
print(values(), torch.equal(gradient(), in_order))
"""
    assert python(program) == "1 True"


@pytest.mark.slow
@pytest.mark.parametrize("earlier", ["", "torch.ones(2**20).mul(2)"], ids=["first", "after_a_computation"])
def test_every_thread_flushes_denormals(earlier):
    """Threads that an earlier computation has left in the pool would keep them: each has its own mode."""
    program = f"""
{earlier}
torch.set_flush_denormal(True)
from equipoise.run.determinism import all_threads_flush, make_reproducible
before = all_threads_flush()
returned = make_reproducible()
values = torch.full(({THREADS} * 2**15,), 1e-39).mul(1)
bits = values.view(torch.int32).chunk({THREADS})
print(before, returned, [int(part.count_nonzero()) for part in bits], torch.get_num_threads())
"""
    assert python(program) == f"{not earlier} True {[0] * THREADS} {THREADS}"


@pytest.mark.slow
def test_the_number_of_threads_does_not_depend_on_the_load():
    """OpenMP may be told to take fewer threads on a busy machine; sums would then be cut differently."""
    program = """
import ctypes
openmp = ctypes.CDLL(None)
before = openmp.omp_get_dynamic()
from equipoise.run.determinism import make_reproducible
make_reproducible()
print(before, openmp.omp_get_dynamic(), torch.get_num_threads())
"""
    assert python(program, OMP_DYNAMIC="true") == f"1 0 {THREADS}"


def test_a_mode_that_the_user_has_chosen_is_kept():
    """Someone who asks for errors instead of warnings, and for filled memory, still gets both."""
    torch.use_deterministic_algorithms(True)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    try:
        assert make_reproducible() and all_threads_flush()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory == filled
    finally:
        torch.use_deterministic_algorithms(False)
