"""Weights in memory against their files, one at a time: a check that needs no second model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from equipoise.models.adapters import Adapter, Chain
from equipoise.models.files import Header
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.held_weights.frozen_base import Base
from equipoise.policy.loading import adapter_weights
from equipoise.policy.scorer import causal_lm, held_values


@torch.no_grad()
def largest_difference(policy: CausalPolicy, found: Chain) -> tuple[str, float]:
    """(name, difference) of the weight that differs most from what a chain's files say, relative to its largest entry.

    A weight W of the full model, with adapters merged, is W + sum_k s_k B_k A_k, s_k = alpha_k / r_k, computed here
    from the files alone; the weights of an adapter in use are those of its file. Fused weights (of experts) are
    skipped.
    """
    model = policy.model
    wrapped = hasattr(model, "peft_config")
    merged, used, start = found.adapters, None, policy.start
    given = start is not None and found == start.chain
    if wrapped and found.adapters and not (given and start is not None and start.created):
        merged, used = found.adapters[:-1], found.adapters[-1]
    under = start.under if given and start is not None and merged else None
    own = start.base if start is not None else Base()
    head = causal_lm(model).get_output_embeddings()
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear) and m is not head}
    worst, held = ("", 0.0), held_values(model)
    for name, parameter in _base_weights(model).items():
        header = found.base.tensors.get(name)
        if header is None:
            continue
        expected, is_linear = _read(header, name).float(), id(parameter) in linear
        if under is not None and expected.ndim > 1:
            expected = under.rounded_weight(expected, linear=is_linear)
        for adapter in merged:
            expected += _product(adapter, name, expected)
        value = held[id(parameter)]() if id(parameter) in held else parameter
        if id(parameter) in held:
            expected = own.rounded_weight(expected, linear=is_linear)
        worst = max(worst, (name, _relative(value, expected)), key=lambda entry: entry[1])
    tensors = {} if used is None else used.tensors
    for name, value in (adapter_weights(model, base=False) if tensors else {}).items():
        expected = _read(tensors[name], name)
        worst = max(worst, (name, _relative(value, expected)), key=lambda entry: entry[1])
    return worst


def _base_weights(model: Any) -> Mapping[str, Tensor]:
    """Parameters of the full model by their names without PEFT's wrappers."""
    named = (model.get_base_model() if hasattr(model, "peft_config") else model).named_parameters()
    return {name.replace(".base_layer.", "."): p for name, p in named if ".lora_" not in name}


def _product(adapter: Adapter, name: str, like: Tensor) -> Tensor:
    """s B A of an adapter for one weight; zeros if it has none."""
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    a, b = (adapter.tensors.get(f"{stem}.lora_{factor}.weight") for factor in "AB")
    if a is None or b is None:
        return torch.zeros_like(like)
    rank = a.shape[0]
    scale = adapter.alpha / (rank**0.5 if adapter.settings.get("use_rslora") else rank)
    return scale * (_read(b, f"{stem}.lora_B.weight").float() @ _read(a, f"{stem}.lora_A.weight").float())


def _read(header: Header, name: str) -> Tensor:
    with safe_open(str(header.file), framework="pt") as file:
        return file.get_tensor(name)


def _relative(value: Tensor, expected: Tensor) -> float:
    if value.shape != expected.shape:
        return float("inf")
    size = float(expected.abs().max()) if expected.numel() else 0.0
    difference = float((value.cpu().float() - expected.float()).abs().max()) if expected.numel() else 0.0
    return difference / size if size else difference
