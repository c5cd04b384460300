"""Random unit directions in parameter space, for zeroth-order (gradient-free) methods.

Two distributions of v in R^d, both with E v v' = I/d: uniform on the unit sphere, or, on a random block of K
coordinates, v = K^(-1/2) sum_j s_j e_j with Rademacher signs s_j (Zhang and Ying 2024, 2409.17401).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]


def unit_direction(draw: np.random.Generator, size: int, block: int) -> Floats:
    """Random unit vector v [size]; block = 0: uniform on the sphere. Raises ValueError if block > size."""
    if block:
        at, signs = _block(draw, size, block)
        v = np.zeros(size)
        v[at] = signs / sqrt(block)
        return v
    drawn = draw.standard_normal(size)
    return drawn / np.linalg.norm(drawn)


@torch.no_grad()
def shift(parameters: Sequence[Tensor], scale: float, seed: int, block: int) -> None:
    """theta <- theta + scale v in place, v over all the tensors as one vector; one tensor of v is held at a time."""
    if block:
        at, signs = _block(np.random.default_rng(seed), sum(p.numel() for p in parameters), block)
        begin = 0
        for parameter in parameters:
            here = (at >= begin) & (at < begin + parameter.numel())
            step = torch.from_numpy(scale / sqrt(block) * signs[here]).to(parameter)
            parameter.view(-1).index_add_(0, torch.from_numpy(at[here] - begin).to(parameter.device), step)
            begin += parameter.numel()
        return
    norm = sqrt(sum(float(v.double().square().sum()) for v in _normal(parameters, seed)))
    for parameter, v in zip(parameters, _normal(parameters, seed), strict=True):
        parameter.add_(v.to(parameter), alpha=scale / norm)


def _normal(parameters: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        yield torch.randn(parameter.shape, generator=draw)


def _block(draw: np.random.Generator, size: int, block: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """(coordinates, signs) of a block drawn without replacement."""
    if block > size:
        raise ValueError(f"block must be at most the number of parameters, {size}; got {block}")
    return draw.choice(size, block, replace=False), draw.choice(np.array([-1.0, 1.0]), block)
