"""Adapters combined by what they add to the weights."""

from __future__ import annotations

import pytest
import torch

from equipoise.policy import lora


def factors(rank: int, seed: int, out: int = 7, into: int = 5):
    draw = torch.Generator().manual_seed(seed)
    first = torch.randn(rank, into, generator=draw, dtype=torch.float64)
    second = torch.randn(out, rank, generator=draw, dtype=torch.float64)
    return first, second


def combined(weights, *adapters):
    first, second = lora.nearest_factors(
        [(w, a) for w, (a, _) in zip(weights, adapters, strict=True)],
        [(w, b) for w, (_, b) in zip(weights, adapters, strict=True)],
    )
    return first, second, sum(w * b @ a for w, (a, b) in zip(weights, adapters, strict=True))


def test_products_that_fit_are_combined_exactly():
    """Two adapters of rank 4 that each use one direction: their sum has rank 2."""
    one, two = factors(4, 0), factors(4, 1)
    for _, second in (one, two):
        second[:, 1:] = 0
    first, second, whole = combined((0.25, 0.75), one, two)
    assert torch.allclose(second @ first, whole, atol=1e-13)
    factorwise = (0.25 * one[1] + 0.75 * two[1]) @ (0.25 * one[0] + 0.75 * two[0])
    assert (factorwise - whole).abs().max() > 0.1  # the sum of the factors is another policy


def test_products_that_do_not_fit_lose_their_smallest_singular_values():
    first, second, whole = combined((0.5, 0.5), factors(2, 2), factors(2, 3))
    values = torch.linalg.svdvals(whole)
    assert float(values[2]) > 0.1
    lost = torch.linalg.svdvals(whole - second @ first)
    assert torch.allclose(lost[:2], values[2:4], atol=1e-12)
    assert torch.linalg.matrix_rank(second @ first) == 2


def test_identical_adapters_leave_what_they_add_as_it_is():
    adapter = factors(3, 4)
    first, second, whole = combined((0.25, 0.75), adapter, adapter)
    assert torch.allclose(whole, adapter[1] @ adapter[0])
    assert torch.allclose(second @ first, whole, atol=1e-13)


def test_directions_that_are_not_used_can_still_be_learnt():
    """A stays as long as it was, B is 0 there, as in a new adapter: B has a gradient."""
    one, two = factors(3, 5), factors(3, 6)
    one[1].zero_()
    two[1].zero_()
    first, second, _ = combined((0.5, 0.5), one, two)
    assert second.abs().max() == 0
    length = torch.cat([one[0], two[0]]).norm(dim=1).mean()
    assert torch.allclose(first @ first.T, length**2 * torch.eye(3, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "other", "first"),
    [
        ("model.q.lora_A.default.weight", "model.q.lora_B.default.weight", True),
        ("model.q.lora_B.weight", "model.q.lora_A.weight", False),
        ("model.embed.lora_embedding_A.default", "model.embed.lora_embedding_B.default", True),
        ("model.norm.weight", None, False),
    ],
)
def test_factors_find_each_other(name, other, first):
    assert lora.partner(name) == other and lora.is_factor_a(name) == first
