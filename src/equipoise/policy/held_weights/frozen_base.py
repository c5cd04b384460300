"""Frozen base weights of a LoRA policy, in bfloat16 or quantised: no float32 copy of the model, adapters in float32.

Linear layers and embeddings hold their weights in bfloat16 and compute as if they were float32 (`kernels.held_linear`);
norms, biases and whatever else a model has are float32. So a checkpoint in bfloat16 gives the same bits either way.
With quantisation (`policy.quantized`) the linear layers but the head hold 4 or 8 bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

from equipoise.models.errors import ModelError
from equipoise.models.files import read_object
from equipoise.models.folder import ModelFolder
from equipoise.policy.held_weights.quantized import QUANTIZATIONS, compute_dequantised, rounded
from equipoise.policy.kernels.held_linear import HeldEmbedding, HeldLinear

BASE_DTYPES = ("checkpoint", "float32", "bfloat16")
HELD: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: HeldLinear, nn.Embedding: HeldEmbedding}
COMPUTED = {held: plain for plain, held in HELD.items()}
RECORD = "frozen_base.json"  # of an adapter's checkpoint: how the base was held that it was trained on


@dataclass(frozen=True)
class Base:
    """How the weights of a base are held: "float32" or "bfloat16", and its linear layers as `quantization` says."""

    dtype: str = "float32"
    quantization: str = "none"

    @property
    def plain(self) -> bool:
        """Whether every weight is held in float32."""
        return self == Base()

    def narrows(self, folder: ModelFolder) -> bool:
        """Whether weights of a folder are rounded by being held so."""
        return self.quantization != "none" or (self.dtype == "bfloat16" and not stored_in_bfloat16(folder))

    def describe(self) -> str:
        linear = "" if self.quantization == "none" else f", its linear layers in {self.quantization[0]} bits"
        return f"{self.dtype}{linear}"

    def hold(self, model: nn.Module) -> None:
        """Hold a model's weights so, in place; quantised layers were loaded so."""
        if self.dtype == "bfloat16":
            hold(model)
        if self.quantization != "none":
            compute_dequantised(model, self.quantization)

    def rounded(self, model: Any) -> None:
        """Round a float32 model's weights to what this base holds, in place."""
        head, held = model.get_output_embeddings(), held_weights(model)
        for module in model.modules():
            if type(module) in HELD and id(module.weight) in held:
                weight = module.weight.data
                module.weight.data = self.rounded_weight(
                    weight, linear=type(module) is nn.Linear and module is not head
                )

    def rounded_weight(self, weight: torch.Tensor, *, linear: bool) -> torch.Tensor:
        """A float32 weight as this base holds it; `linear`: of a linear layer but the head."""
        if linear and self.quantization != "none":
            return rounded(weight, self.quantization)
        return weight.bfloat16().float() if self.dtype == "bfloat16" else weight


def base_of(dtype: str, quantization: str, folder: ModelFolder, *, adapted: bool, merged: bool) -> Base:
    """How the base of a policy is held.

    dtype           "checkpoint": as its files are, bfloat16 if all of them are; or a dtype.
    quantization    "none", "4bit" or "8bit".
    adapted         an adapter is trained, and the base is frozen.
    merged          adapters were merged into it, in float32.

    Raises ModelError for weights that are trained in fewer bits than float32, or a setting that does not exist.
    """
    for name, value, known in (
        ("base_dtype", dtype, BASE_DTYPES),
        ("quantization", quantization, QUANTIZATIONS),
    ):
        if value not in known:
            raise ModelError(f"model.{name} must be one of {', '.join(known)}, got {value!r}")
        if value not in ("checkpoint", "float32", "none") and not adapted:
            raise ModelError(
                f"model.{name}={value} holds frozen weights, and without an adapter all weights are trained, which "
                f"takes float32; set model.lora_rank, or leave model.{name} out"
            )
    if dtype == "checkpoint":
        dtype = "bfloat16" if adapted and not merged and stored_in_bfloat16(folder) else "float32"
    return Base(dtype, quantization)


def stored_in_bfloat16(folder: ModelFolder) -> bool:
    """Whether all weights of a folder are bfloat16, so that none is rounded by holding it so."""
    return {header.dtype for header in folder.tensors.values()} == {"BF16"}


def write_record(folder: Path, base: Base) -> None:
    """Say in an adapter's checkpoint how its base was held, if that rounded it: others then round theirs."""
    text = json.dumps(asdict(base), indent=2, sort_keys=True) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> Base | None:
    """How the base of an adapter was held; None where its folder says nothing. Raises ModelError if it is broken."""
    if not (folder / RECORD).is_file():
        return None
    found = read_object(folder / RECORD)
    base = Base(str(found.get("dtype")), str(found.get("quantization")))
    if base.dtype not in BASE_DTYPES[1:] or base.quantization not in QUANTIZATIONS:
        raise ModelError(f"{folder / RECORD} does not say how a base is held: {str(found)[:80]}")
    return base


def hold(model: nn.Module) -> None:
    """Hold a model's linear layers and embeddings in bfloat16, and everything else in float32, in place.

    A weight that a module of another kind shares (the scaled embeddings of Gemma, tied to its head) is float32. Weights
    that are float32 are rounded, one at a time.
    """
    held = held_weights(model)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            if id(parameter) in held:
                parameter.data = parameter.data.to(torch.bfloat16)
            else:  # a copy: one weight that is mapped from its file would keep the whole file in memory
                parameter.data = parameter.data.to(torch.float32, copy=True)
    for module in model.modules():
        if type(module) in HELD and id(module.weight) in held:
            module.__class__ = HELD[type(module)]  # in place: tied weights, hooks and names stay as they are


def held_weights(model: nn.Module) -> set[int]:
    """Identities of the parameters that `hold` makes bfloat16."""
    own = [
        (type(m) in HELD and p.ndim > 1, id(p)) for m in model.modules() for p in m.parameters(recurse=False)
    ]
    return {key for fits, key in own if fits} - {key for fits, key in own if not fits}


def exact_buffers(model: Any) -> None:
    """Give a model that was loaded in bfloat16 the buffers of one in float32, such as the scale of Gemma's embeddings.

    They are no part of a checkpoint: a model computes them when it is made, in the dtype it is made in.
    """
    with init_empty_weights(include_buffers=False):
        made = type(model)(model.config)
    computed = dict(made.named_buffers())
    for name, buffer in model.named_buffers():
        if name in computed and buffer.is_floating_point():
            buffer.data = computed[name].to(torch.float32) if not computed[name].is_meta else buffer.float()


def compute_where_trained(model: nn.Module) -> None:
    """Return modules whose weight is trained after all (embeddings stored with an adapter) to float32."""
    for module in model.modules():
        if type(module) in COMPUTED and any(p.requires_grad for p in module.parameters()):
            module.float()
            module.__class__ = COMPUTED[type(module)]


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Context manager: held weights look like float32 for a moment, without memory for them.

    PEFT creates an adapter in the dtype of the weight that it stands on, and its factors would be rounded to it.
    """
    held: dict[int, tuple[Any, torch.Tensor]] = {
        id(p): (p, p.data) for p in model.parameters() if p.dtype == torch.bfloat16
    }
    for parameter, data in held.values():
        parameter.data = torch.zeros((), dtype=torch.float32, device=data.device).expand(data.shape)
    try:
        yield
    finally:
        for parameter, data in held.values():
            parameter.data = data
