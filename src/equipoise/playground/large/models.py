"""Checkpoints of the large tea house that ship with the package, and their enumerated policies."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

CheckpointName = Literal["weak", "mid", "strong"]
CHECKPOINTS: tuple[CheckpointName, ...] = get_args(CheckpointName)
POLICY_FILE = "reference_policy.safetensors"


def checkpoint_path(name: str) -> Path:
    """The folder of a checkpoint, which transformers loads. Raises ValueError for a name that is none."""
    if name not in CHECKPOINTS:
        raise ValueError(f"the large tea house has the checkpoints {', '.join(CHECKPOINTS)}, got {name!r}")
    with as_file(files("equipoise.playground.large") / "checkpoints" / name) as path:
        return path


@cache
def enumerated_policy(name: str, *, given_inside: bool = True) -> Float[Tensor, "X A"]:
    """pi_ref(a | x) of a checkpoint; float64.

    given_inside   given that the answer is in the grammar: rows sum to 1. False: what they lack to 1 is outside.
    """
    logp = load_file(checkpoint_path(name) / POLICY_FILE)["logp"].double()
    return torch.softmax(logp, dim=1) if given_inside else logp.exp()
