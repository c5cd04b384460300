"""LoRA adapters combined by the products B A that they add to the weights, not by their factors."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

_FACTOR = re.compile(r"\.lora_(embedding_)?([AB])\b")


def partner(name: str) -> str | None:
    """Name of the other factor (A or B) of a LoRA weight; None for other weights."""
    match = _FACTOR.search(name)
    if match is None:
        return None
    at = match.start(2)
    return name[:at] + ("B" if name[at] == "A" else "A") + name[at + 1 :]


def is_factor_a(name: str) -> bool:
    """Whether a LoRA weight is the factor A, which reads the input."""
    match = _FACTOR.search(name)
    return match is not None and match[2] == "A"


def nearest_factors(
    first: Sequence[tuple[float, Tensor]], second: Sequence[tuple[float, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Best rank-r factors (A, B): B A is nearest to sum_k w_k B_k A_k in the Frobenius norm.

    first, second   (w_k, A_k [r, in]) and (w_k, B_k [out, r]), with the same weights.

    The sum has rank up to r times the number of terms. If its rank is at most r it is reproduced exactly; otherwise the
    smallest singular values are dropped (Eckart and Young). B carries the singular values; the rows of A are orthogonal
    and as long as those of the A_k on average, so that directions the sum does not use can still be learnt, as B has a
    gradient where A is not 0.
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
