"""Contrastive losses: gradients, relative penalties, limits in tau, hard negatives, own temperatures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from equipoise.core.margins import similarities as s
from equipoise.core.objectives.label_margins import margin_loss


def drawn(rows: int = 30, negatives: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(rows, 1 + negatives, dtype=torch.float64, generator=generator) - 1


def info_nce(scores: Tensor, tau: float) -> Tensor:
    return margin_loss(scores[:, :1] - scores[:, 1:], temperature=tau)


@pytest.mark.parametrize("tau", [0.07, 0.5, 3.0])
def test_gradients_of_info_nce(tau: float):
    """dL/ds_pos = -(1/tau) sum_k P_k, dL/ds_k = P_k / tau, and they add up to 0."""
    scores = drawn().requires_grad_()
    info_nce(scores, tau).sum().backward()
    prob = (scores.detach() / tau).softmax(dim=1)
    assert scores.grad is not None
    assert torch.allclose(scores.grad[:, 1:], prob[:, 1:] / tau, rtol=1e-10)
    assert torch.allclose(scores.grad[:, 0], -prob[:, 1:].sum(dim=1) / tau, rtol=1e-10)
    shares = scores.grad[:, 1:] / scores.grad[:, 1:].sum(dim=1, keepdim=True)
    assert torch.allclose(shares, s.relative_penalty(scores.detach()[:, 1:], tau), rtol=1e-10)


def test_the_entropy_of_the_penalties_grows_with_tau():
    entropies = []
    for tau in (0.05, 0.1, 0.3, 1.0, 3.0):
        r = s.relative_penalty(drawn()[:, 1:], tau)
        entropies.append(-torch.special.xlogy(r, r).sum(dim=1))
    assert bool((torch.stack(entropies).diff(dim=0) > 0).all())


def test_limits_in_tau():
    """tau -> 0: tau L is the hinge on the hardest negative; tau -> inf: tau (L - log(1+J)) is linear."""
    scores = drawn()
    hardest = (scores[:, 1:].amax(dim=1) - scores[:, 0]).relu()
    assert torch.allclose(1e-3 * info_nce(scores, 1e-3), hardest, atol=1e-3 * math.log(13))
    linear = (scores[:, 1:].sum(dim=1) - 12 * scores[:, 0]) / 13
    far = 1e5 * (info_nce(scores, 1e5) - math.log(13))
    assert torch.allclose(far, linear, atol=1e-4)


def test_hard_negatives_are_the_upper_share():
    kept = s.hardest(torch.tensor([[0.1, 0.4, 0.3, 0.2], [4.0, 3.0, 2.0, 1.0]]), 0.5)
    assert kept.tolist() == [[False, True, True, False], [True, True, False, False]]
    assert s.hardest(torch.rand(3, 50), 1e-6).sum(dim=1).tolist() == [1, 1, 1]
    assert bool(s.hardest(torch.rand(3, 50), 1.0).all())
    with pytest.raises(ValueError, match="share of hard negatives"):
        s.hardest(torch.rand(1, 2), 0.0)


def test_uniformity_and_tolerance_by_hand():
    """Four points on a circle: squared distances 2 (4 pairs) and 4 (2 pairs)."""
    circle = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64)
    by_hand = -math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6)
    assert s.uniformity(circle) == pytest.approx(by_hand, rel=1e-12)
    assert s.tolerance(circle, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.0, abs=1e-12)
    assert s.tolerance(circle, torch.tensor([0, 1, 0, 1])) == pytest.approx(-1.0)
    assert math.isnan(s.tolerance(circle, torch.arange(4)))
    with pytest.raises(ValueError, match="two embeddings"):
        s.uniformity(circle[:1])


# iSogCLR ----------------------------------------------------------------------------------------


def robust_value(negatives: Tensor, positive: Tensor, tau: Tensor, rho: float) -> Tensor:
    """F_i = tau log E_neg exp(h / tau) + tau rho, by the margin equation with the log-mean link."""
    from equipoise.core.objectives.label_margins import LogMean

    h = positive[:, None] - negatives
    return margin_loss(h, temperature=tau, link=LogMean(), power=1.0) + tau * rho


def test_the_slope_in_tau_is_that_of_the_robust_value():
    scores = drawn()
    rule = s.OwnTemperatures(rho=0.3, average=1.0)
    tau = torch.linspace(0.1, 1.0, 30, dtype=torch.float64).requires_grad_()
    robust_value(scores[:, 1:], scores[:, 0], tau, 0.3).sum().backward()
    fixed = tau.detach()
    mean = rule.averaged(scores[:, 1:], fixed, torch.zeros(30), torch.zeros(30, dtype=torch.bool))
    assert tau.grad is not None
    assert torch.allclose(rule.slope(scores[:, 1:], fixed, mean), tau.grad, rtol=1e-9, atol=1e-12)


def test_with_one_temperature_and_no_average_it_is_the_global_contrastive_loss():
    """g = 1: the surrogate's gradient is that of tau log E exp(s_neg/tau) - s_pos."""
    scores = drawn().requires_grad_()
    rule, tau = s.OwnTemperatures(average=1.0), torch.full((30,), 0.2, dtype=torch.float64)
    mean = rule.averaged(scores[:, 1:], tau, torch.zeros(30), torch.ones(30, dtype=torch.bool))
    (ours,) = torch.autograd.grad(rule.loss(scores[:, 0], scores[:, 1:], tau, mean).sum(), scores)
    (plain,) = torch.autograd.grad(robust_value(scores[:, 1:], scores[:, 0], tau, 0.3).sum(), scores)
    assert torch.allclose(ours, plain, rtol=1e-9, atol=1e-12)


def test_the_running_mean_and_the_bounds():
    rule = s.OwnTemperatures(average=0.25, momentum=1.0, rate=10.0, low=0.05, high=0.7)
    tau = torch.full((30,), 0.2, dtype=torch.float64)
    new = (drawn()[:, 1:] / 0.2).exp().mean(dim=1)
    seen = torch.arange(30) % 2 == 0
    mean = rule.averaged(drawn()[:, 1:], tau, torch.full((30,), math.log(3.0), dtype=torch.float64), seen)
    assert torch.allclose(mean.exp(), torch.where(seen, 0.75 * 3 + 0.25 * new, new), rtol=1e-10)
    for push, bound in ((50.0, 0.05), (-50.0, 0.7)):
        moved, velocity = rule.moved(tau, torch.zeros(30), torch.full((30,), push, dtype=torch.float64))
        assert bool((moved == bound).all()) and bool((velocity.abs() == s.LONGEST_STEP).all())


def test_a_resting_temperature_is_the_fixed_point_of_the_rule_and_falls_with_the_radius():
    negatives = drawn()[:, 1:]
    rule = s.OwnTemperatures(rho=0.2, average=1.0, low=0.01, high=50.0)
    taus = [s.resting_temperature(negatives, rho) for rho in (0.05, 0.2, 0.8)]
    assert bool((taus[0] > taus[1]).all() and (taus[1] > taus[2]).all())
    mean = rule.averaged(negatives, taus[1], torch.zeros(30), torch.zeros(30, dtype=torch.bool))
    assert torch.allclose(
        rule.slope(negatives, taus[1], mean), torch.zeros(30, dtype=torch.float64), atol=1e-9
    )


def test_two_levels_of_similarity_have_the_temperatures_of_the_closed_form():
    """A share f of negatives at 0.8, the others at 0: tau rises with f, and falls as f nears exp(-rho)."""
    shares = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    rows = torch.zeros(len(shares), 500, dtype=torch.float64)
    for row, share in enumerate(shares):
        rows[row, : round(500 * share)] = 0.8
    tau = s.resting_temperature(rows, 0.2).tolist()
    assert tau == pytest.approx([0.36, 0.45, 0.53, 0.61, 0.61, 0.49, 0.20], abs=0.01)
    rows[0, :450] = 0.8  # f = 0.9 > exp(-0.2): the KL divergence cannot reach rho
    assert s.resting_temperature(rows[:1], 0.2).item() == pytest.approx(1e-3, rel=1e-6)


def test_bad_parameters_are_refused():
    for bad in ({"rho": 0.0}, {"average": 0.0}, {"momentum": 2.0}, {"start": 2.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            s.OwnTemperatures(**bad)
