"""What layers of the common shape (Llama, Qwen 2 and 3, Mistral, Gemma 1) are, and what they are made of: linear maps
and norms, with gradients but without autograd.

They stand for modules of transformers and PEFT, whose weights they refer to and whose arithmetic they repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from equipoise.policy.kernels.elementwise import ACTIVATIONS, norm, norm_back

LAYER = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
ATTENTION, NORMS = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"q_norm", "k_norm"}
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}

Half: TypeAlias = torch.dtype | None  # what autocast multiplies in


class Unusual(ValueError):
    """A part that is not one of these; the message names it."""


def check(layer: Any) -> None:
    """Raises Unusual naming what of the layer is not of the common shape. It is looked at; a probe has to compare."""
    for module, names in (
        (layer, LAYER),
        (getattr(layer, "self_attn", None), ATTENTION),
        (getattr(layer, "mlp", None), MLP),
    ):
        found = {name for name, _ in module.named_children()} if module is not None else set()
        if found != names and not (names is ATTENTION and found == names | NORMS):
            raise Unusual(f"{type(module).__name__} has {', '.join(sorted(found ^ names))}")
        own = [name for name, _ in module.named_parameters(recurse=False)]
        if own:
            raise Unusual(f"{type(module).__name__} has {', '.join(own)}")
    hooked = [
        type(m).__name__
        for m in layer.modules()
        if m is not layer and (m._forward_hooks or m._forward_pre_hooks)
    ]
    if hooked:
        raise Unusual(f"hooks on {hooked[0]}")


def linears(layer: Any) -> tuple[Any, ...]:
    """The modules of q, k, v, o, gate, up and down."""
    a, mlp = layer.self_attn, layer.mlp
    return a.q_proj, a.k_proj, a.v_proj, a.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj


class Norm(NamedTuple):
    """x -> (weight + offset) x / sqrt(mean x^2 + eps)."""

    weight: Tensor
    eps: float
    offset: float

    def __call__(self, x: Tensor) -> Tensor:
        return norm(x, self.weight, self.eps, self.offset)

    def back(self, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and weight. `grad` is overwritten."""
        return norm_back(x, grad, self.weight, self.eps, self.offset)


class Map(NamedTuple):
    """x -> x W' + bias + scale (x A') B', the last where there is an adapter."""

    weight: Tensor
    bias: Tensor | None
    a: Tensor | None
    b: Tensor | None
    scale: float
    half: Half

    def __call__(self, x: Tensor) -> Tensor:
        low = x if self.half is None else x.to(self.half)
        weight, bias, a, b = (t if t is None or self.half is None else t.to(self.half) for t in self[:4])
        found = low @ weight.T if bias is None else torch.addmm(bias, low, weight.T)
        return found if a is None else found.addmm_(low @ a.T, b.T, alpha=self.scale)

    @property
    def whole(self) -> Tensor:
        """The matrix with its adapter folded in."""
        if self.a is None or self.b is None:
            return self.weight
        return torch.addmm(self.weight, self.b, self.a, alpha=self.scale)

    def back(self, grad: Tensor, onto: Tensor | None) -> Tensor:
        """Gradient of x, added to `onto` if that is given."""
        low = grad if self.half is None else grad.to(self.half)
        weight, a, b = (
            t if t is None or self.half is None else t.to(self.half) for t in (self.weight, *self[2:4])
        )
        if onto is None or onto.dtype != low.dtype:
            found = low @ weight
            onto = found if onto is None else onto.add_(found)
        else:
            onto.addmm_(low, weight)
        return onto if a is None else onto.add_((low @ b) @ a, alpha=self.scale)

    def slopes(self, x: Tensor, grad: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of weight, bias, A and B, where they are wanted."""
        if self.half is not None and any(wanted):
            x, grad = x.to(self.half), grad.to(self.half)
        found: list[Tensor | None] = [None] * 4
        if wanted[0]:
            found[0] = grad.T @ x
        if wanted[1]:
            found[1] = grad.sum(dim=0)
        if wanted[2]:
            found[2] = (grad @ self.b.to(x.dtype)).T @ x * self.scale
        if wanted[3]:
            found[3] = grad.T @ (x @ self.a.to(x.dtype).T) * self.scale
        return [f if f is None else f.to(t.dtype) for f, t in zip(found, self[:4], strict=True)]


def norm_of(module: Any, offset: float) -> Norm:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if eps is None or [name for name, _ in module.named_parameters()] != ["weight"]:
        raise Unusual(f"the norm {type(module).__name__}")
    return Norm(module.weight, eps, offset)


def map_of(module: Any, half: Half) -> Map:
    """A linear module, or PEFT's adapter around one."""
    base = getattr(module, "base_layer", module)
    if type(base) is not nn.Linear:
        raise Unusual(f"the map {type(base).__name__}")
    names = [] if base is module or module.disable_adapters or module.merged else module.active_adapters
    names = [name for name in names if name in module.lora_A]
    if not names:
        return Map(base.weight, base.bias, None, None, 1.0, half)
    (name, *more), variants = names, getattr(module, "lora_variant", {})
    a, b = module.lora_A[name], module.lora_B[name]
    if more or name in variants or b.bias is not None or type(module.lora_dropout[name]) is not nn.Identity:
        raise Unusual("adapters that are not one LoRA without dropout")
    return Map(base.weight, base.bias, a.weight, b.weight, module.scaling[name], half)


def activation_of(module: Any) -> str:
    x = torch.linspace(-3, 3, 13)
    for name, (function, _) in ACTIVATIONS.items():
        if torch.equal(module(x), function(x)):
            return name
    raise Unusual(f"the activation {type(module).__name__}")
