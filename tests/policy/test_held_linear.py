"""Frozen weights converted for one product: the bits of a converted copy, in memory that products share."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from equipoise.policy.kernels.held_linear import MAPPED, converted, held_product, new_memory, workspace

CPU = torch.device("cpu")


def drawn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shapes", [[(8, 6), (5, 6), (8, 6)], [(3, 6), (40, 6), (7, 6)]])
def test_products_that_share_memory_have_the_bits_of_converted_copies(shapes):
    weights = [drawn(*shape, seed=i).bfloat16() for i, shape in enumerate(shapes)]
    xs = [drawn(4, 6, seed=9 + i).requires_grad_() for i in range(len(shapes))]
    others = [x.detach().clone().requires_grad_() for x in xs]
    ours = [held_product(x, w, None, converted) for x, w in zip(xs, weights, strict=True)]
    plain = [linear(x, w.float()) for x, w in zip(others, weights, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))
    for outs in (ours, plain):
        sum((i + 1) * (y * y).sum() for i, y in enumerate(outs)).backward()
    assert all(torch.equal(x.grad, other.grad) for x, other in zip(xs, others, strict=True))


def test_converted_weights_of_products_take_turns_in_one_buffer():
    first, second = drawn(8, 6, seed=0).bfloat16(), drawn(5, 6, seed=1).bfloat16()
    with torch.no_grad():
        a = converted(first, torch.float32, workspace)
        b = converted(second, torch.float32, workspace)
    assert a.data_ptr() == b.data_ptr()
    assert torch.equal(b, second.float())
    assert converted(first, torch.bfloat16, workspace) is first
    own = [converted(first, torch.float32, new_memory) for _ in range(2)]
    assert own[0].data_ptr() != own[1].data_ptr()


def test_what_autograd_may_keep_and_what_is_large_is_not_overwritten():
    weight = drawn(8, 6, seed=0).bfloat16()
    kept, after = (converted(weight, torch.float32, workspace) for _ in range(2))
    assert kept.data_ptr() != after.data_ptr()
    with torch.no_grad():
        large = [workspace([MAPPED // 4], torch.float32, CPU) for _ in range(2)]
    assert large[0].data_ptr() != large[1].data_ptr()


def test_a_buffer_made_in_inference_mode_is_written_outside_of_it():
    weight = drawn(900, 7, seed=0).bfloat16()  # larger than other tests' buffers
    with torch.inference_mode():
        converted(weight, torch.float32, workspace)
    with torch.no_grad():
        assert torch.equal(converted(weight, torch.float32, workspace), weight.float())
