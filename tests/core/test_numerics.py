"""Stable elementary functions against high precision and at their ends."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import pytest
import torch

from equipoise.core.numerics import LARGEST_EXPONENT, NEAREST_TO_ONE, bounded_exp, log1mexp, log_odds


@pytest.mark.parametrize("a", [-1e-5, -0.01, -0.5, -math.log(2), -0.7, -3.0, -40.0, -700.0])
def test_log1mexp_to_the_last_digits(a):
    getcontext().prec = 400
    exact = float((1 - Decimal(a).exp()).ln())
    assert log1mexp(torch.tensor(a, dtype=torch.float64)).item() == pytest.approx(exact, rel=1e-15)


@pytest.mark.parametrize("a", [-1e-4, -0.3, -math.log(2), -2.0])
def test_slope_of_log1mexp(a):
    # d/da log(1 - e^a) = -e^a / (1 - e^a)
    x = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    log1mexp(x).backward()
    assert x.grad.item() == pytest.approx(-math.exp(a) / -math.expm1(a), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("a", [0.0, 1.0, NEAREST_TO_ONE / 2, -1e4])
def test_certainty_and_impossibility_stay_finite(a, dtype):
    x = torch.tensor(a, dtype=dtype, requires_grad=True)
    odds = log_odds(x)
    odds.backward()
    assert bool(odds.isfinite()) and bool(x.grad.isfinite())
    if a >= NEAREST_TO_ONE:
        assert x.grad.item() == 0.0


def test_log_odds_are_the_logit():
    p = torch.tensor([0.1, 0.5, 0.999], dtype=torch.float64)
    assert torch.allclose(log_odds(p.log()), torch.logit(p), rtol=1e-13)


def test_bounded_exp_is_exp_below_its_end():
    a = torch.tensor([-3.0, 0.0, LARGEST_EXPONENT, 1e6], requires_grad=True)
    value = bounded_exp(a)
    assert value[:3].tolist() == a[:3].exp().tolist()
    assert value[3] == value[2]
    value.sum().backward()
    assert a.grad[3].item() == 0.0
