"""Frozen base weights of a LoRA policy, held in bfloat16: no float32 copy of the model, adapters in float32.

Linear layers and embeddings hold their weights in bfloat16 and compute as if they were float32 (`kernels.held_linear`);
norms, biases and whatever else a model has are float32. So a checkpoint in bfloat16 gives the same bits either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

from equipoise.models.errors import ModelError
from equipoise.models.folder import ModelFolder
from equipoise.policy.kernels.held_linear import HeldEmbedding, HeldLinear

BASE_DTYPES = ("checkpoint", "float32", "bfloat16")
HELD: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: HeldLinear, nn.Embedding: HeldEmbedding}
COMPUTED = {held: plain for plain, held in HELD.items()}


def base_dtype(setting: str, base: ModelFolder, *, adapted: bool, merged: bool) -> str:
    """ "float32" or "bfloat16": how the base of a policy is held.

    setting    "checkpoint": as its files are, bfloat16 if all of them are; or a dtype.
    adapted    an adapter is trained, and the base is frozen.     merged    adapters were merged into it, in float32.

    Raises ModelError for weights that are trained in bfloat16, or a setting that does not exist.
    """
    if setting not in BASE_DTYPES:
        raise ModelError(f"model.base_dtype must be one of {', '.join(BASE_DTYPES)}, got {setting!r}")
    if setting == "bfloat16" and not adapted:
        raise ModelError(
            "model.base_dtype=bfloat16 holds frozen weights, and without an adapter all weights are trained, which "
            "takes float32; set model.lora_rank, or leave model.base_dtype out"
        )
    if setting != "checkpoint":
        return setting
    return "bfloat16" if adapted and not merged and stored_in_bfloat16(base) else "float32"


def stored_in_bfloat16(base: ModelFolder) -> bool:
    """Whether all floating-point weights of a folder are bfloat16, so that none is rounded by holding it so."""
    return {header.dtype for header in base.tensors.values()} == {"BF16"}


def hold(model: nn.Module) -> None:
    """Hold a model's linear layers and embeddings in bfloat16, and everything else in float32, in place.

    A weight that a module of another kind shares (the scaled embeddings of Gemma, tied to its head) is float32. Weights
    that are float32 are rounded, one at a time.
    """
    held = held_weights(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16 if id(parameter) in held else torch.float32)
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
        if buffer.is_floating_point():
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
        id(p): (p, p.data) for p in model.parameters() if p.dtype != torch.float32
    }
    for parameter, data in held.values():
        parameter.data = torch.zeros((), dtype=torch.float32, device=data.device).expand(data.shape)
    try:
        yield
    finally:
        for parameter, data in held.values():
            parameter.data = data
