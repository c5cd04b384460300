"""Robust DPO: unbiased under flips, where conservative DPO is not."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core import reduce
from equipoise.core.objectives import AsymmetricRdpo, Cdpo, Dpo, Rdpo

GAPS = (-30.0, -3.0, -0.2, 0.0, 0.4, 5.0, 60.0)
each_rate = pytest.mark.parametrize("e", [0.05, 0.2, 0.4])


def test_value_by_hand(margins):
    # e = 1/4: [3/4 softplus(-1) - 1/4 softplus(1)] / (1/2) at m = 1
    value = Rdpo(beta=0.5, flip=0.25)(margins(2.0)).value.item()
    minus, plus = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert value == pytest.approx((0.75 * minus - 0.25 * plus) / 0.5)


@each_rate
def test_the_expectation_over_flips_is_the_clean_loss(margins, e):
    # label "y0 beats y1" kept with probability 1 - e
    noisy = reduce.expected(Rdpo(beta=1.0, flip=e), margins(*GAPS, prob=1 - e)).value
    clean = Dpo(beta=1.0)(margins(*GAPS)).value
    assert torch.allclose(noisy, clean, rtol=0, atol=1e-12)


@each_rate
def test_conservative_dpo_is_biased(margins, e):
    noisy = reduce.expected(Cdpo(beta=1.0, smoothing=e), margins(*GAPS, prob=1 - e)).value
    clean = Dpo(beta=1.0)(margins(*GAPS)).value
    bias = (noisy - clean).detach()
    # two smoothings in a row: 2e(1 - e) m more than the clean loss
    assert torch.allclose(
        bias, 2 * e * (1 - e) * torch.tensor(GAPS, dtype=torch.float64), rtol=1e-12, atol=1e-14
    )


@each_rate
def test_the_weight_lies_between_two_bounds_and_never_vanishes(margins, e):
    scores = margins(*GAPS)
    Rdpo(beta=1.0, flip=e)(scores).value.sum().backward()
    weight = -scores.logp.grad[:, 0]
    low, high = e / (1 - 2 * e), (1 - e) / (1 - 2 * e)
    assert bool((weight >= low * (1 - 1e-12)).all()) and bool((weight <= high * (1 + 1e-12)).all())
    assert weight[GAPS.index(0.0)].item() == pytest.approx(1 / (2 * (1 - 2 * e)))
    m = torch.tensor(GAPS, dtype=torch.float64)
    zeta = (1 - e) / (1 - 2 * e) * torch.sigmoid(-m) + e / (1 - 2 * e) * torch.sigmoid(m)
    assert torch.allclose(weight, zeta, rtol=1e-12)


@each_rate
def test_conservative_dpo_turns_back_where_robust_dpo_pushes_on(margins, e):
    far = math.log((1 - e) / e) + 1
    for objective, sign in ((Cdpo(beta=1.0, smoothing=e), 1), (Rdpo(beta=1.0, flip=e), -1)):
        scores = margins(far)
        objective(scores).value.sum().backward()
        assert scores.logp.grad[0, 0].item() * sign > 0


@each_rate
def test_it_has_no_lower_bound(margins, e):
    value = Rdpo(beta=1.0, flip=e)(margins(1e4)).value.item()
    assert value / 1e4 == pytest.approx(-e / (1 - 2 * e), rel=1e-12)


def test_a_wrong_rate_leaves_a_bias_in_proportion(margins):
    true, assumed = 0.3, 0.2
    noisy = reduce.expected(Rdpo(beta=1.0, flip=assumed), margins(*GAPS, prob=1 - true)).value
    bias = (noisy - Dpo(beta=1.0)(margins(*GAPS)).value).detach()
    expected = (true - assumed) / (1 - 2 * assumed) * torch.tensor(GAPS, dtype=torch.float64)
    assert torch.allclose(bias, expected, rtol=1e-11, atol=1e-13)


def test_two_rates_are_unbiased_for_both_true_orders(margins):
    up, down = 0.3, 0.1  # flips of pairs whose truth is "first", and "second"
    shown_first, shown_second = (
        AsymmetricRdpo(beta=1.0, flip=up, other=down),
        AsymmetricRdpo(beta=1.0, flip=down, other=up),
    )
    clean = Dpo(beta=1.0)
    here, turned = margins(*GAPS), margins(*GAPS).swap()
    # the truth is "first": recorded so with 1 - up, else turned round and corrected with the other pair of rates
    first = (1 - up) * shown_first(here).value + up * shown_second(turned).value
    assert torch.allclose(first, clean(here).value, rtol=0, atol=1e-12)
    second = (1 - down) * shown_second(turned).value + down * shown_first(here).value
    assert torch.allclose(second, clean(turned).value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("flip", [-0.1, 0.5, 0.7])
def test_rates_from_one_half_on_are_refused(flip):
    with pytest.raises(ValueError, match="flip must lie in"):
        Rdpo(flip=flip)


def test_two_rates_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="flip \\+ other must be below 1"):
        AsymmetricRdpo(flip=0.6, other=0.4)
