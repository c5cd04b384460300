"""What the common layer does to states between its products: norms, rotary embeddings, gated activations."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

aten = torch.ops.aten

# activation -> (itself, its gradient), by name
ACTIVATIONS = {
    "silu": (silu, aten.silu_backward),
    "gelu": (gelu, aten.gelu_backward),
    "gelu_tanh": (partial(gelu, approximate="tanh"), partial(aten.gelu_backward, approximate="tanh")),
}


def scaled(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / sqrt(mean x^2 + eps) and that root's inverse; in float32 like the modules, whatever the type of x."""
    wide = x.float()
    inverse = wide.square().mean(dim=-1, keepdim=True).add_(eps).rsqrt_()
    return wide * inverse, inverse


def norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """(weight + offset) x / sqrt(mean x^2 + eps)."""
    normal = scaled(x, eps)[0]
    if offset:  # Gemma rounds after the product, the others before it
        return (normal * (weight + offset).float()).to(x.dtype)
    return normal.to(x.dtype) * weight


def norm_back(x: Tensor, grad: Tensor, weight: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight. `grad` is overwritten."""
    normal, inverse = scaled(x, eps)
    gain = weight + offset if offset else weight
    along = normal * grad
    d_weight = along.flatten(0, -2).sum(dim=0)
    mean = (along * gain).sum(dim=-1, keepdim=True) / x.shape[-1]
    d_x = grad.mul_(gain).sub_(normal.mul_(mean)).mul_(inverse)
    return d_x, d_weight.to(weight.dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of heads [S, H, E] by [S, 1, E]; with -sin it is the gradient's."""
    half, x = x.shape[-1] // 2, x.to(cos.dtype)
    found = x * cos
    found[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    found[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return found


def gated(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """act(gate) * up."""
    return ACTIVATIONS[activation][0](gate).mul_(up)


def gated_back(gate: Tensor, up: Tensor, grad: Tensor, activation: str) -> tuple[Tensor, Tensor, Tensor]:
    """act(gate) * up again, and the gradients of gate and up. `grad` is overwritten."""
    act, slope = ACTIVATIONS[activation]
    on = act(gate)
    product = on * up
    d_up = on.mul_(grad)
    return product, slope(grad.mul_(up), gate), d_up
