"""Peak memory of a run so far: of the GPU that it uses, or else of the process."""

from __future__ import annotations

import torch

from equipoise.run.planning.costs import most_resident


def peak() -> float:
    """Bytes."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated())
    return most_resident()
