"""Frozen weights in bfloat16 that compute in the dtype of their input: a LoRA base of half the size, the same bits.

A bfloat16 number is a float32 number, so that a checkpoint in bfloat16 gives the same products whether it is held as it
came or converted to float32. Weights are converted for one product at a time, in the forward and again in the backward.
On a CPU they are converted into one workspace: a heap in which converted weights and smaller activations take turns is
left with a gap for every weight, and grows by the whole model.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

MAPPED = 2**25  # bytes from which glibc maps an allocation on its own, so that it leaves no gap

# (shape, dtype, device) -> memory to fill
Allocate = Callable[[Sequence[int], torch.dtype, torch.device], Tensor]
# (a weight as it is held, dtype, where W is written unless it is there already) -> W in that dtype
Unpack = Callable[[Tensor, torch.dtype, Allocate], Tensor]


def new_memory(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor of its own."""
    return torch.empty(shape, dtype=dtype, device=device)


class _Workspace(threading.local):
    """The memory of converted weights, one buffer for each dtype and thread, as large as the largest weight so far."""

    def __init__(self) -> None:
        self.buffers: dict[torch.dtype, Tensor] = {}

    def __call__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Uninitialised memory that the next call on this thread takes back: for a weight that one product reads.

        New memory where autograd might keep the tensor, for weights of MAPPED bytes, such as a head's, and on devices
        other than a CPU, where PyTorch has an allocator of its own.
        """
        size = math.prod(shape)
        if device.type != "cpu" or torch.is_grad_enabled() or size * dtype.itemsize >= MAPPED:
            return new_memory(shape, dtype, device)
        buffer = self.buffers.get(dtype)
        if buffer is None or buffer.numel() < size:
            self.buffers.pop(dtype, None)
            with torch.inference_mode(False):  # its buffers could not be written elsewhere
                buffer = self.buffers[dtype] = new_memory([size], dtype, device)
        return buffer[:size].view(shape)


workspace = _Workspace()


def converted(weight: Tensor, dtype: torch.dtype, allocate: Allocate) -> Tensor:
    """A weight in another dtype; itself if it has that."""
    return weight if weight.dtype == dtype else allocate(weight.shape, dtype, weight.device).copy_(weight)


class HeldLinear(nn.Linear):
    """`nn.Linear` whose frozen weight is held in another dtype than it computes in."""

    def forward(self, input: Tensor) -> Tensor:
        return held_product(input, self.weight, self.bias, converted)


class HeldEmbedding(nn.Embedding):
    """`nn.Embedding` whose frozen weight is held in another dtype; its rows are float32."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


def held_product(x: Tensor, weight: Tensor, bias: Tensor | None, unpack: Unpack) -> Tensor:
    """x W' + bias in the dtype of x, or of autocast, W by `unpack`; differentiable in x and bias."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    apply: Callable[..., Tensor] = _HeldProduct.apply
    return apply(x.to(dtype), weight, None if bias is None else bias.to(dtype), unpack)


class _HeldProduct(torch.autograd.Function):
    """x W' + bias; saved for the backward is W as it is held, not its converted copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, unpack: Unpack) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.unpack = unpack
        return linear(x, unpack(weight, x.dtype, workspace), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        d_x = grad @ ctx.unpack(weight, grad.dtype, workspace) if ctx.needs_input_grad[0] else None
        d_bias = grad.flatten(0, -2).sum(dim=0) if ctx.needs_input_grad[2] else None
        return d_x, None, d_bias, None
