"""Weights handed to an inference engine: a LoRA adapter by itself, or the whole model with adapters merged."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from equipoise.policy.causal import CausalPolicy


def adapted(policy: CausalPolicy) -> bool:
    """Whether the policy is a LoRA adapter on frozen weights."""
    return hasattr(policy.model, "peft_config")


def base_of(policy: CausalPolicy) -> str | None:
    """The full model on which the policy's adapter stands, by its folder; None: the policy has none on disk."""
    if not adapted(policy) or policy.start is None:
        return None
    if policy.start.merged:  # written for the adapter, by `policy.loading`
        return str(policy.model.active_peft_config.base_model_name_or_path)
    return str(policy.start.chain.base.path.resolve())


def rank_of(policy: CausalPolicy) -> int:
    """The largest rank of the policy's adapter."""
    settings = policy.model.active_peft_config
    return max([int(settings.r), *map(int, (settings.rank_pattern or {}).values())])


def weights_key(policy: CausalPolicy) -> str:
    """Hash of the weights that are handed over: of an adapter and the name of its base, or of all."""
    digest = hashlib.sha256(str(base_of(policy)).encode())
    for name, tensor in sorted(_handed(policy).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def save_adapter(policy: CausalPolicy, folder: Path) -> None:
    """Write the adapter as PEFT does, in safetensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT says that it looks for the base
        policy.model.save_pretrained(str(folder), safe_serialization=True)


def save_merged(policy: CausalPolicy, folder: Path) -> None:
    """Write the whole model, with adapters merged, and its tokenizer."""
    model = policy.model
    if adapted(policy):
        model = copy.deepcopy(model).merge_and_unload()
    model.save_pretrained(str(folder), safe_serialization=True)
    policy.tokenizer.save_pretrained(str(folder))


def _handed(policy: CausalPolicy) -> Mapping[str, Tensor]:
    if not adapted(policy):
        return dict(policy.model.state_dict())
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(get_peft_model_state_dict(policy.model))
