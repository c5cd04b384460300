"""Stored values and gradients of authors' code, and the formula that gives their inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

STORED: dict[str, Any] = json.loads((Path(__file__).parent / "agree/authors_losses.json").read_text())
TOLERANCE = {"rel": 1e-12, "abs": 1e-12}


def waves(count: int, pace: float, size: float, shift: float = 0.0) -> Tensor:
    """size sin(pace n) + shift, n = 1, 2, ..."""
    return size * torch.sin(pace * (torch.arange(count, dtype=torch.float64) + 1)) + shift


def same(found: Tensor, stored: Any) -> None:
    assert found.detach().flatten().tolist() == pytest.approx(
        torch.tensor(stored, dtype=torch.float64).flatten().tolist(), **TOLERANCE
    )
