"""QLoRA: frozen linear layers of 4 bits (nf4, double quantisation) or 8 bits (a scale for each row), by bitsandbytes.

Weights alone are quantised: a layer multiplies by its dequantised weight in the dtype of its input, whichever path
computes it, so that packed rows, padded rows, sampling and a merged export are one policy. (bitsandbytes' own 8-bit
product also rounds the activations, by the largest of a batch.) The head and the embeddings are not quantised.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.policy.held_weights.quantization_library import bitsandbytes
from equipoise.policy.kernels.held_linear import Allocate, Unpack, converted, held_product
from equipoise.policy.kernels.linear import UNPACKING

QUANTIZATIONS = ("none", "4bit", "8bit")
SETTING = "model.quantization"


def settings_of(bits: str, head: str) -> Any:
    """transformers' BitsAndBytesConfig of "4bit" or "8bit" weights; `head` is the module that is left as it is."""
    from transformers import BitsAndBytesConfig

    bitsandbytes(f"{SETTING}={bits}")
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=[head])
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=[head],
    )


def head_name(model: Any) -> str:
    """The name of a model's output layer, which is not quantised."""
    head = model.get_output_embeddings()
    return next(name for name, module in model.named_modules() if module is head)


def compute_dequantised(model: nn.Module, bits: str) -> None:
    """Let a model's quantised layers compute with their dequantised weights, in place."""
    library = bitsandbytes(f"{SETTING}={bits}").nn
    kinds: dict[Any, Callable[[Any], Unpack]] = {
        library.Linear4bit: lambda module: partial(_from_4bit, module),
        library.Linear8bitLt: lambda module: partial(_from_8bit, module),
    }
    UNPACKING.update(kinds)
    for module in model.modules():
        if type(module) in kinds:
            if type(module) is library.Linear4bit:
                module.weight.quant_state.dtype = torch.float32  # type: ignore[union-attr]
            module.forward = partial(
                _forward, module
            )  # an attribute of the object, before the method of its class


def _forward(module: Any, input: Tensor) -> Tensor:
    return held_product(input, module.weight, module.bias, UNPACKING[type(module)](module))


def _from_4bit(module: Any, weight: Tensor, dtype: torch.dtype, allocate: Allocate) -> Tensor:
    functional = bitsandbytes(SETTING).functional
    dequantised: Tensor = functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
    return converted(dequantised, dtype, allocate)


def _from_8bit(module: Any, weight: Tensor, dtype: torch.dtype, allocate: Allocate) -> Tensor:
    codes = module.weight.data
    dequantised = allocate(codes.shape, torch.float32, codes.device).copy_(codes)
    return converted(dequantised.mul_(module.weight.SCB[:, None] / 127), dtype, allocate)


def rounded(weight: Tensor, bits: str) -> Tensor:
    """What the quantised form of a float32 weight stands for, in float32: what a layer computes with."""
    functional = bitsandbytes(f"{SETTING}={bits}").functional
    if bits == "8bit":
        codes, scale, _ = functional.int8_vectorwise_quant(weight.half())  # as the library's layer does
        return codes.float() * (scale[:, None] / 127)
    codes, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    dequantised: Tensor = functional.dequantize_4bit(codes, state)
    return dequantised


def stored_bytes(bits: str, parameters: int, rows: int) -> float:
    """Bytes of a quantised weight: 4 bits and a byte of scale (quantised itself) for each block of 64, or 8 bits and a
    float32 number for each of its rows."""
    if bits == "8bit":
        return parameters + 4 * rows
    return parameters / 2 + parameters / 64 * (1 + 4 / 256)
