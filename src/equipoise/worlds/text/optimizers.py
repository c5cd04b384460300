"""Optimizers of a fit by name: AdamW, SGD, Adafactor of PyTorch, and AdamW with 8-bit moments of bitsandbytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

from equipoise.policy.held_weights.quantization_library import bitsandbytes


class Hyperparameters(Protocol):
    """What a fit gives an optimizer."""

    @property
    def optimizer(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def eps(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An optimizer that can be chosen.

    moments    bytes of its state for each trained parameter; Adafactor's rows and columns round to none.
    updating   bytes for each parameter of the largest trained weight, on a CPU, while it is updated.
    library    whether it comes from bitsandbytes.
    divisible  whether each moment belongs to one weight, so that processes can divide them (FSDP2).
    """

    moments: float
    updating: float = 0
    library: bool = False
    divisible: bool = False


# 8-bit moments: two bytes, and two float32 numbers for each block of 256; on a CPU bitsandbytes updates a weight with
# both moments, its gradient, a square root and its quotient in float32
KINDS: Mapping[str, Kind] = {
    "adamw": Kind(moments=8, divisible=True),
    "sgd": Kind(moments=4, divisible=True),
    "adafactor": Kind(moments=0, updating=8),
    "adamw_8bit": Kind(moments=2 + 8 / 256, updating=20, library=True),
    "paged_adamw_8bit": Kind(moments=2 + 8 / 256, updating=20, library=True),
}


def optimizer_of(groups: list[dict[str, Any]], chosen: Hyperparameters) -> Optimizer:
    """The optimizer that a fit asks for, on its parameter groups.

    SGD has momentum beta1, Adafactor a rate relative to each weight's size, as PyTorch implements them. Raises
    ModelError where bitsandbytes is needed and missing.
    """
    lr, decay = chosen.lr, chosen.weight_decay
    if chosen.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=chosen.beta1, weight_decay=decay)
    if chosen.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=lr, weight_decay=decay)
    how: dict[str, Any] = {"lr": lr, "betas": (chosen.beta1, chosen.beta2), "eps": chosen.eps}
    if KINDS[chosen.optimizer].library:
        library = bitsandbytes(f"train.optimizer={chosen.optimizer}").optim
        device = groups[0]["params"][0].device
        paged = (
            chosen.optimizer == "paged_adamw_8bit" and device.type != "cpu"
        )  # a CPU's memory is where pages go
        return (library.PagedAdamW8bit if paged else library.AdamW8bit)(groups, weight_decay=decay, **how)
    return torch.optim.AdamW(groups, weight_decay=decay, fused=True, **how)
