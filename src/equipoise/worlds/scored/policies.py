"""Policies of a scored world as plain tensors: parameters, and Adam's moments where a descent goes on from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.policy.files import MOMENTS, read_tensors, whole, write_tensors
from equipoise.worlds.folder.journal import Journal

WEIGHTS = "policy.safetensors"


@dataclass(frozen=True, eq=False)
class Policy:
    """A policy's parameters, and the optimizer's moments after the descent that made it; equal only to itself."""

    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] = field(default_factory=dict)


def write_policy(journal: Journal, folder: Path, policy: Policy) -> None:
    """Write a checkpoint whole or not at all, and enter it in the run's manifest."""
    with whole(folder) as draft:
        draft.mkdir()
        write_tensors(draft / WEIGHTS, policy.parameters)
        if policy.moments:
            write_tensors(draft / MOMENTS, policy.moments)
    journal.manifest.record(folder)


def read_policy(folder: Path) -> Policy:
    """Read a checkpoint. Raises ValueError if a file is not intact."""
    moments = folder / MOMENTS
    return Policy(read_tensors(folder / WEIGHTS)[0], read_tensors(moments)[0] if moments.exists() else {})


def moments_of(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The state of an optimizer of one group as tensors, "parameter/statistic" -> value."""
    found: dict[str, Tensor] = {}
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        for what, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}/{what}"] = torch.as_tensor(value).detach().clone()
    return found


def restore_moments(
    optimizer: torch.optim.Optimizer, names: list[str], moments: Mapping[str, Tensor]
) -> None:
    """The inverse of `moments_of`; without moments the optimizer begins anew."""
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        state: dict[str, Any] = {
            key.removeprefix(f"{name}/"): value.clone()
            for key, value in moments.items()
            if key.startswith(f"{name}/")
        }
        if state:
            optimizer.state[parameter] = state
