"""Losses of reward models against numbers by hand, and their gradients against finite differences."""

from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from equipoise.reward_models.head import Head
from equipoise.reward_models.losses import (
    centring,
    over_attributes,
    preference_loss,
    symmetric_logit,
    symmetric_prob,
)
from equipoise.reward_models.model import RewardModel

numbers = st.floats(-6, 6)
shares = st.floats(0, 1)


def one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def loss(z: float, p: float, **how) -> float:
    return float(preference_loss(one(z), one(p), **how))


def test_by_hand():
    # sigma(log 3) = 3/4
    assert loss(log(3), 1.0) == pytest.approx(log(4 / 3))
    assert loss(log(3), 0.0) == pytest.approx(log(4))
    assert loss(log(3), 0.5) == pytest.approx((log(4 / 3) + log(4)) / 2)
    assert loss(log(3) + 2, 1.0, margin=2.0) == pytest.approx(log(4 / 3))
    assert loss(log(3), 1.0, smoothing=0.25) == pytest.approx(0.75 * log(4 / 3) + 0.25 * log(4))
    assert float(centring(one(1.5), one(-0.5))) == 1.0


@given(numbers, shares, numbers)
def test_at_the_margin_the_loss_is_log_2_and_its_slope_is_the_error(m, p, z):
    assert loss(m, p, margin=m) == pytest.approx(log(2))
    logit = one(z).requires_grad_()
    preference_loss(logit, one(p), margin=m).sum().backward()
    assert float(logit.grad) == pytest.approx(float(torch.sigmoid(one(z - m))) - p, abs=1e-12)


@given(numbers, shares, numbers)
def test_swapping_the_responses_changes_nothing(z, p, m):
    assert loss(z, p, margin=m) == pytest.approx(loss(-z, 1 - p, margin=-m))


@given(st.floats(0.01, 0.49))
def test_the_best_logit_of_a_smoothed_label_is_that_of_its_share(e):
    best = float(torch.logit(one(1 - e)))
    assert all(loss(best, 1.0, smoothing=e) <= loss(best + d, 1.0, smoothing=e) for d in (-0.1, 0.1))


def test_gradients():
    z, p, m = (torch.randn(5, dtype=torch.float64) for _ in range(3))
    z.requires_grad_(), m.requires_grad_()
    assert gradcheck(lambda z, m: preference_loss(z, p.sigmoid(), margin=m, smoothing=0.1), (z, m))
    model = RewardModel(torch.nn.Linear(1, 1), Head(kind="gpm", dimension=4, normalise=True))
    first, second = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weights = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(model.logits, (first, second, weights))


def test_an_attribute_without_a_label_says_nothing():
    values = torch.tensor([[1.0, 5.0], [2.0, 4.0], [7.0, 7.0]], requires_grad=True)
    known = torch.tensor([[True, False], [True, True], [False, False]])
    mean = over_attributes(values, known)
    assert mean.tolist() == [1.0, 3.0, 0.0]
    mean.sum().backward()
    assert values.grad.tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]


@given(numbers, numbers)
def test_both_orders_together_are_a_preference(forward, backward):
    there, back = symmetric_prob(one(forward), one(backward)), symmetric_prob(one(backward), one(forward))
    assert float(there + back) == pytest.approx(1.0)
    assert float(symmetric_prob(one(forward), one(-forward))) == pytest.approx(
        float(torch.sigmoid(one(forward)))
    )


def test_a_pairwise_model_that_is_sure_has_a_finite_logit():
    sure, unsure = one(80.0), one(0.3)
    for sign in (1, -1):
        logit = symmetric_logit(sign * sure, -sign * sure)
        assert 25 < sign * float(logit) < 30
        assert torch.isfinite(preference_loss(logit, one(1.0))).all()
    assert float(torch.sigmoid(symmetric_logit(unsure, sure))) == pytest.approx(
        float(symmetric_prob(unsure, sure)), abs=1e-12
    )


def test_a_general_preference_holds_a_cycle_and_bradley_terry():
    gpm = RewardModel(torch.nn.Linear(1, 1), Head(kind="gpm", dimension=2))
    angles = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64) * torch.pi / 3
    v = torch.stack([angles.cos(), angles.sin()], dim=1)
    score = gpm.logits(v[:, None], v[None, :])[..., 0]
    assert torch.allclose(score, -score.T) and torch.allclose(score.diagonal(), torch.zeros(3).double())
    assert [float(score[i, (i + 1) % 3]) for i in range(3)] == pytest.approx([3**0.5 / 2] * 3)
    r = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    v = torch.stack([r, torch.ones(3)], dim=1)
    assert torch.allclose(gpm.logits(v[:, None], v[None, :])[..., 0], r[:, None] - r[None, :])
