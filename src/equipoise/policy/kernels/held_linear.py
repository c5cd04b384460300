"""Frozen weights in bfloat16 that compute in the dtype of their input: a LoRA base of half the size, the same bits.

A bfloat16 number is a float32 number, so that a checkpoint in bfloat16 gives the same products whether it is held as it
came or converted to float32. Weights are converted for one product at a time, in the forward and again in the backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

Unpack = Callable[[Tensor, torch.dtype], Tensor]  # (a weight as it is held, dtype) -> W in that dtype


class HeldLinear(nn.Linear):
    """`nn.Linear` whose frozen weight is held in another dtype than it computes in."""

    def forward(self, input: Tensor) -> Tensor:
        return held_product(input, self.weight, self.bias, Tensor.to)


class HeldEmbedding(nn.Embedding):
    """`nn.Embedding` whose frozen weight is held in another dtype; its rows are float32."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


def held_product(x: Tensor, weight: Tensor, bias: Tensor | None, unpack: Unpack) -> Tensor:
    """x W' + bias in the dtype of x, or of autocast, W = unpack(weight, dtype); differentiable in x and bias."""
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
        return linear(x, unpack(weight, x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        d_x = grad @ ctx.unpack(weight, grad.dtype) if ctx.needs_input_grad[0] else None
        d_bias = grad.flatten(0, -2).sum(dim=0) if ctx.needs_input_grad[2] else None
        return d_x, None, d_bias, None
