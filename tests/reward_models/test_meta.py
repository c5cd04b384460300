"""MetaRM: the spread of sampled rewards by hand, and the step ahead against a model that was copied and moved."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from equipoise.reward_models.meta import ascended, spread


def test_spread_by_hand():
    def s(x):
        return 1 / (1 + math.exp(-x))

    rewards = torch.tensor([[0.0, 1.0, 3.0], [2.0, 2.0, 2.0]])
    first = 2 / 9 * (s(1) + s(3) + s(2))
    assert float(spread(rewards)) == pytest.approx((first + 1 / 3) / 2)


@pytest.mark.parametrize("k", [2, 4, 8])
def test_bounds_of_the_spread(k):
    alike, apart = torch.zeros(1, k), 100.0 * torch.arange(k)[None]
    assert float(spread(alike)) == pytest.approx((k - 1) / (2 * k))
    assert float(spread(apart)) == pytest.approx((k - 1) / k)
    assert float(spread(apart.flip(1))) == float(spread(apart))


def scene():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    return model, unused, torch.randn(3, 4, 5).double(), torch.randn(6, 2, 5).double()


def pair_loss(model, pairs):
    first, second = model(pairs).squeeze(-1).unbind(1)
    return -logsigmoid(first - second).mean()


def test_the_gradient_is_that_of_a_model_moved_up_the_spread():
    model, unused, sampled, pairs = scene()
    other = copy.deepcopy(model)
    gradients = torch.autograd.grad(spread(other(sampled).squeeze(-1)), list(other.parameters()))
    with torch.no_grad():
        for p, g in zip(other.parameters(), gradients, strict=True):
            p.add_(0.7 * g)
    pair_loss(other, pairs).backward()

    before = [p.detach().clone() for p in model.parameters()]
    with ascended(
        [*model.parameters(), unused], lambda: spread(model(sampled).squeeze(-1)), rate=0.7
    ) as value:
        ahead = float(spread(model(sampled).squeeze(-1)).detach())
        pair_loss(model, pairs).backward()
    assert ahead > value
    for p, kept, moved in zip(model.parameters(), before, other.parameters(), strict=True):
        assert torch.equal(p, kept)
        assert torch.allclose(p.grad, moved.grad, rtol=1e-10, atol=1e-14)
    assert unused.tolist() == [1, 1]


def test_a_rate_of_zero_is_the_ordinary_gradient():
    model, _, sampled, pairs = scene()
    other = copy.deepcopy(model)
    pair_loss(other, pairs).backward()
    with ascended(list(model.parameters()), lambda: spread(model(sampled).squeeze(-1)), rate=0.0):
        pair_loss(model, pairs).backward()
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_parameters_come_back_when_the_block_fails():
    model, _, sampled, _ = scene()
    before = copy.deepcopy(model.state_dict())
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        ascended(list(model.parameters()), lambda: spread(model(sampled).squeeze(-1)), rate=1.0),
    ):
        raise RuntimeError("out of memory")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_refused():
    model, _, sampled, _ = scene()
    with pytest.raises(ValueError, match="responses >= 2"):
        spread(torch.zeros(3, 1))
    with (
        pytest.raises(ValueError, match="at least 0"),
        ascended(list(model.parameters()), lambda: spread(model(sampled).squeeze(-1)), rate=-1.0),
    ):
        pass
    with (
        pytest.raises(ValueError, match="not finite"),
        ascended(list(model.parameters()), lambda: model(sampled).sum() * math.nan, rate=1.0),
    ):
        pass
