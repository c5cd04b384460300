"""LoRA adapters by what they add to the weights: the products B A of their two factors."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

_FACTOR = re.compile(r"\.lora_(embedding_)?([AB])\b")


def partner(name: str) -> str | None:
    """The name of the other factor of a LoRA weight; None for a weight of another kind."""
    found = _FACTOR.search(name)
    if found is None:
        return None
    at = found.start(2)
    return name[:at] + ("B" if name[at] == "A" else "A") + name[at + 1 :]


def is_first(name: str) -> bool:
    """Whether a LoRA weight is the factor A, the one that reads the input."""
    found = _FACTOR.search(name)
    return found is not None and found[2] == "A"


def nearest(
    first: Sequence[tuple[float, Tensor]], second: Sequence[tuple[float, Tensor]]
) -> tuple[Tensor, Tensor]:
    """(A, B) with B A the matrix of rank r nearest to sum_k w_k B_k A_k in the Frobenius norm.

    first, second   (w_k, A_k [r, in]) and (w_k, B_k [out, r]), with the same weights.

    The sum has rank up to r times the number of terms. Where its rank is r or less it is met exactly; otherwise the
    smallest singular values are cut off (Eckart and Young). The singular values go to B, while the rows of A are
    orthogonal and as long as those of the A_k in the mean: a direction that the sum does not use can then still be
    learnt, since B has a gradient where A is not 0.
    """
    rank = first[0][1].shape[0]
    rows = torch.cat([a for _, a in first])
    columns = torch.cat([weight * b for weight, b in second], dim=1)
    basis_in, triangle_in = torch.linalg.qr(rows.T)
    basis_out, triangle_out = torch.linalg.qr(columns)
    left, values, right = torch.linalg.svd(triangle_out @ triangle_in.T)
    length = torch.stack([a.norm(dim=1).mean() for _, a in first]).mean()
    kept = min(rank, len(values))
    new_a, new_b = torch.zeros_like(first[0][1]), torch.zeros_like(second[0][1])
    new_a[:kept] = length * (basis_in @ right.T[:, :kept]).T
    new_b[:, :kept] = basis_out @ left[:, :kept] * values[:kept] / length
    return new_a, new_b
