"""Batches of token sequences by padded size: rows of similar length together, at most so many tokens with padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def by_tokens(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices in batches, the shortest rows first: rows * longest row <= tokens, but at least one row each.

    The batches depend on the lengths alone, not on the order of rows of one length. Raises ValueError unless
    tokens > 0.
    """
    if tokens <= 0:
        raise ValueError(f"a batch needs room for at least one token, got {tokens}")
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if found and (len(found[-1]) + 1) * lengths[index] <= tokens:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """(ids [N, T], mask [N, T]) of rows padded on the right."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask
