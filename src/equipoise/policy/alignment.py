"""Memory alignment of weights: products of the same numbers have the same bits, whatever file they were read from."""

from __future__ import annotations

from torch import nn

BYTES = 64  # torch's own allocations start at a multiple of it


def align(model: nn.Module) -> None:
    """Move weights to aligned memory where they are not: each starts at a multiple of 64 bytes, as torch allocates.

    A weight read from a safetensors file stays where the file is mapped, at a multiple of 8 bytes that depends on the
    length of the file's header. Matrix products choose their path by alignment, and the paths differ in the last bit.
    One weight at a time is copied, so that memory holds one weight more. Tied weights stay tied.
    """
    for weight in (*model.parameters(), *model.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % BYTES:
            weight.data = weight.data.clone()
