"""Linear layers with an optional LoRA adapter, and RMSNorms: forward and backward without autograd.

They stand for the modules of transformers and PEFT in a Llama-style layer (Llama, Qwen 2 and 3, Mistral, Gemma 1): they
refer to those modules' weights and repeat their arithmetic. Raises UnsupportedLayer for any other structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.policy.kernels.elementwise import ACTIVATIONS, rms_norm, rms_norm_backward
from equipoise.policy.kernels.held_linear import HeldLinear, Unpack, converted, new_memory, workspace

LAYER_PARTS = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
ATTENTION_PARTS, HEAD_NORMS = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"q_norm", "k_norm"}
MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
# kinds of linear modules that hold their frozen weight in another form -> what makes W of it, for a module; other
# packages may add theirs
UNPACKING: dict[type, Callable[[Any], Unpack]] = {HeldLinear: lambda module: converted}


class UnsupportedLayer(ValueError):
    """A layer or one of its modules has a structure that these kernels do not cover; the message names it."""


def check_structure(layer: Any) -> None:
    """Structure of a decoder layer: only its modules' names, parameters and hooks are checked here.

    Numerical equality is probed by the caller. Raises UnsupportedLayer naming the first part that does not fit.
    """
    modules: list[tuple[Any, set[str]]] = [
        (layer, LAYER_PARTS),
        (getattr(layer, "self_attn", None), ATTENTION_PARTS),
        (getattr(layer, "mlp", None), MLP_PARTS),
    ]
    for module, expected in modules:
        names = {name for name, _ in module.named_children()} if module is not None else set()
        if names != expected and not (expected is ATTENTION_PARTS and names == expected | HEAD_NORMS):
            raise UnsupportedLayer(
                f"{type(module).__name__} has missing or unknown parts: {', '.join(sorted(names ^ expected))}"
            )
        parameters = [name for name, _ in module.named_parameters(recurse=False)]
        if parameters:
            raise UnsupportedLayer(
                f"{type(module).__name__} has parameters outside its parts: {', '.join(parameters)}"
            )
    hooked = [
        type(m).__name__
        for m in layer.modules()
        if m is not layer and (m._forward_hooks or m._forward_pre_hooks)
    ]
    if hooked:
        raise UnsupportedLayer(f"hooks on {hooked[0]}")


def linear_modules(layer: Any) -> tuple[Any, ...]:
    """The layer's linear modules: q, k, v, o, gate, up, down."""
    a, mlp = layer.self_attn, layer.mlp
    return a.q_proj, a.k_proj, a.v_proj, a.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj


class RmsNorm(NamedTuple):
    """RMSNorm: x -> (weight + offset) x / sqrt(mean x^2 + eps)."""

    weight: Tensor
    eps: float
    offset: float

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return (self.weight,)

    def __call__(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps, self.offset)

    def backward(self, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and weight. `grad` is overwritten."""
        return rms_norm_backward(x, grad, self.weight, self.eps, self.offset)


class LoraLinear(NamedTuple):
    """Linear layer with an optional LoRA adapter: x -> x W' + bias + scale (x A') B'.

    weight          W [out, in]; bias [out] or None.
    a, b            A [rank, in] and B [out, rank]; None without an adapter.
    compute_dtype   of the matrix products, as under autocast; None: that of the input.
    unpack          makes W of a frozen weight that is held in another form; None: W itself.
    """

    weight: Tensor
    bias: Tensor | None
    a: Tensor | None
    b: Tensor | None
    scale: float
    compute_dtype: torch.dtype | None
    unpack: Unpack | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.weight, self.bias, self.a, self.b

    def __call__(self, x: Tensor) -> Tensor:
        x = self._cast(x)
        weight, bias, a, b = self._weight(x.dtype), *map(self._cast_optional, self[1:4])
        out = x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
        return out if a is None or b is None else out.addmm_(x @ a.T, b.T, alpha=self.scale)

    @property
    def merged_weight(self) -> Tensor:
        """W + scale B A: the adapter merged into the weight."""
        weight = self.weight if self.unpack is None else self.unpack(self.weight, torch.float32, new_memory)
        if self.a is None or self.b is None:
            return weight
        return torch.addmm(weight, self.b, self.a, alpha=self.scale)

    def input_grad(self, grad: Tensor, onto: Tensor | None) -> Tensor:
        """Gradient of x: g W + scale (g B) A, added to `onto` in place if that is given."""
        grad = self._cast(grad)
        weight, a, b = self._weight(grad.dtype), *map(self._cast_optional, self[2:4])
        if onto is None or onto.dtype != grad.dtype:
            from_weight = grad @ weight
            onto = from_weight if onto is None else onto.add_(from_weight)
        else:
            onto.addmm_(grad, weight)
        return onto if a is None or b is None else onto.add_((grad @ b) @ a, alpha=self.scale)

    def weight_grads(self, x: Tensor, grad: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of weight, bias, A and B, None where not wanted, each in its parameter's dtype.

        d_W = g' x        d_bias = sum over rows of g        d_A = scale (g B)' x        d_B = scale g' (x A')
        """
        if any(wanted):
            x, grad = self._cast(x), self._cast(grad)
        grads: list[Tensor | None] = [None] * 4
        if wanted[0]:
            grads[0] = grad.T @ x
        if wanted[1]:
            grads[1] = grad.sum(dim=0)
        if wanted[2] and self.b is not None:
            grads[2] = (grad @ self.b.to(x.dtype)).T @ x * self.scale
        if wanted[3] and self.a is not None:
            grads[3] = grad.T @ (x @ self.a.to(x.dtype).T) * self.scale
        return [
            None if g is None or p is None else g.to(p.dtype)
            for g, p in zip(grads, self.tensors, strict=True)
        ]

    def _weight(self, dtype: torch.dtype) -> Tensor:
        """W for a product with an input of this dtype, which is cast already."""
        return (self.unpack or converted)(self.weight, dtype, workspace)

    def _cast(self, x: Tensor) -> Tensor:
        return x if self.compute_dtype is None else x.to(self.compute_dtype)

    def _cast_optional(self, x: Tensor | None) -> Tensor | None:
        return None if x is None else self._cast(x)


def rms_norm_of(module: Any, offset: float) -> RmsNorm:
    """The RMSNorm that a module computes. Raises UnsupportedLayer for one without an eps or with other parameters."""
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if eps is None or [name for name, _ in module.named_parameters()] != ["weight"]:
        raise UnsupportedLayer(f"the norm {type(module).__name__} is not a plain RMSNorm")
    return RmsNorm(module.weight, eps, offset)


def lora_linear_of(module: Any, compute_dtype: torch.dtype | None) -> LoraLinear:
    """The linear layer that a module computes: `nn.Linear`, one whose frozen weight is held in another form, or PEFT's
    LoRA around one.

    Raises UnsupportedLayer for other linear modules and for adapters that are not one LoRA without dropout.
    """
    base = getattr(module, "base_layer", module)
    if type(base) is not nn.Linear and type(base) not in UNPACKING:
        raise UnsupportedLayer(f"the linear module {type(base).__name__} is not nn.Linear")
    unpack = UNPACKING[type(base)](base) if type(base) in UNPACKING else None
    names = [] if base is module or module.disable_adapters or module.merged else module.active_adapters
    names = [name for name in names if name in module.lora_A]
    if not names:
        return LoraLinear(base.weight, base.bias, None, None, 1.0, compute_dtype, unpack)
    (name, *more), variants = names, getattr(module, "lora_variant", {})
    a, b = module.lora_A[name], module.lora_B[name]
    if more or name in variants or b.bias is not None or type(module.lora_dropout[name]) is not nn.Identity:
        raise UnsupportedLayer("adapters that are not one LoRA without dropout")
    return LoraLinear(base.weight, base.bias, a.weight, b.weight, module.scaling[name], compute_dtype, unpack)


def activation_name(module: Any) -> str:
    """The name in ACTIVATIONS of an activation module, by comparing values. Raises UnsupportedLayer if none fits."""
    x = torch.linspace(-3, 3, 13)
    for name, (function, _) in ACTIVATIONS.items():
        if torch.equal(module(x), function(x)):
            return name
    raise UnsupportedLayer(f"the activation {type(module).__name__} is none of {', '.join(ACTIVATIONS)}")
