"""Elementwise ops of a Llama-style decoder layer: RMSNorm, RoPE, gated activations, each with its backward.

Nothing here records a graph: `kernels.decoder_layer` calls forward and backward by hand. Formulas stand at the
functions; g is the gradient that arrives at an op's output.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

aten = torch.ops.aten

# activation -> (act, (g, x) -> g act'(x)), by name
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "silu": (silu, aten.silu_backward),
    "gelu": (gelu, aten.gelu_backward),
    "gelu_tanh": (partial(gelu, approximate="tanh"), partial(aten.gelu_backward, approximate="tanh")),
}


def rms_normalize(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(n, r) with r = 1 / sqrt(mean x^2 + eps) over the last axis [..., 1] and n = r x [..., D].

    Both are float32 whatever the dtype of x, as in transformers' modules.
    """
    wide = x.float()
    inverse = wide.square().mean(dim=-1, keepdim=True).add_(eps).rsqrt_()
    return wide * inverse, inverse


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """RMSNorm: (weight + offset) x / sqrt(mean x^2 + eps), x [..., D], weight [D]; in the dtype of x."""
    normal = rms_normalize(x, eps)[0]
    if offset:  # Gemma rounds after the product, the others before it
        return (normal * (weight + offset).float()).to(x.dtype)
    return normal.to(x.dtype) * weight


def rms_norm_backward(
    x: Tensor, grad: Tensor, weight: Tensor, eps: float, offset: float
) -> tuple[Tensor, Tensor]:
    """Backward of `rms_norm`: gradients of x and weight. `grad` is overwritten.

    With w = weight + offset and n = r x from `rms_normalize`, of which dn_i/dx_j = r (delta_ij - n_i n_j / D):

        d_weight = sum over rows of g n        d_x = r (g w - n mean(g w n)), the mean over the last axis
    """
    normal, inverse = rms_normalize(x, eps)
    gain = weight + offset if offset else weight
    along = normal * grad
    d_weight = along.flatten(0, -2).sum(dim=0)
    mean = (along * gain).sum(dim=-1, keepdim=True) / x.shape[-1]
    d_x = grad.mul_(gain).sub_(normal.mul_(mean)).mul_(inverse)
    return d_x, d_weight.to(weight.dtype)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE: rotary position embedding of heads x [S, H, E] by angles cos, sin [S, 1, E]; in the dtype of cos.

    With x = (a, b) its two halves the result is (a cos - b sin, b cos + a sin). The backward is the transposed
    rotation, d_x = rope(g, cos, -sin), because the angles' two halves are equal.
    """
    half, x = x.shape[-1] // 2, x.to(cos.dtype)
    rotated = x * cos
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return rotated


def glu(gate: Tensor, up: Tensor, activation: str) -> Tensor:
    """Gated linear unit: act(gate) up; SwiGLU with "silu", GEGLU with "gelu"."""
    return ACTIVATIONS[activation][0](gate).mul_(up)


def glu_backward(gate: Tensor, up: Tensor, grad: Tensor, activation: str) -> tuple[Tensor, Tensor, Tensor]:
    """Backward of `glu`: its output, formed again, and the gradients of gate and up. `grad` is overwritten.

    d_gate = g up act'(gate)        d_up = g act(gate)
    """
    act, act_backward = ACTIVATIONS[activation]
    activated = act(gate)
    output = activated * up
    d_up = activated.mul_(grad)
    return output, act_backward(grad.mul_(up), gate), d_up
