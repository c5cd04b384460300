"""CPO, SimPO and AlphaPO against the arithmetic of their papers."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core.objectives import AlphaPo, Cpo, CpoSimpo, Dpo, Irpo, ReferenceFreeDpo, Simpo


def test_cpo_by_hand(pairs):
    # m = 1/2 * (-4 + 6) = 1; NLL 4/2
    value = Cpo(beta=0.5, alpha=0.3)(pairs([-4.0], [-6.0], lengths=(2.0, 3.0))).value.item()
    assert value == pytest.approx(math.log1p(math.exp(-1)) + 0.3 * 2)


def test_cpo_is_irpo_where_the_reference_is_even(pairs):
    scores = pairs([-4.0, -1.0], [-6.0, -9.0], reference=(-5.0, -5.0), lengths=(2.0, 3.0))
    assert torch.allclose(Cpo(beta=0.5, alpha=0.3)(scores).value, Irpo(beta=0.5, alpha=0.3)(scores).value)


def test_reference_free_dpo_needs_neither_reference_nor_lengths(pairs):
    free = ReferenceFreeDpo(beta=0.5)(pairs([-4.0], [-6.0])).value
    assert torch.allclose(free, Dpo(beta=0.5)(pairs([-4.0], [-6.0], reference=(0.0, 0.0))).value)


def test_simpo_by_hand(pairs):
    # means -2 and -1; m = 2 * (-1) = -2, gamma 1: softplus(3)
    scores = pairs([-4.0], [-3.0], lengths=(2.0, 3.0))
    losses = Simpo(beta=2.0, gamma=1.0)(scores)
    losses.value.sum().backward()
    assert losses.value.item() == pytest.approx(math.log1p(math.exp(3)))
    assert losses.metrics["margin"].item() == pytest.approx(-2.0)
    # each token of y is pulled by beta/|y|
    weight = 1 / (1 + math.exp(-3))
    assert scores.logp.grad.tolist()[0] == pytest.approx([-weight * 2 / 2, weight * 2 / 3])


def test_the_ratio_of_the_authors_code_is_gamma_over_beta(pairs):
    scores = pairs([-4.0], [-3.0], lengths=(2.0, 3.0))
    beta, ratio = 2.5, 0.4
    means = scores.per_token().logp.detach()
    theirs = torch.nn.functional.softplus(-beta * (means[:, 0] - means[:, 1] - ratio))
    assert torch.allclose(Simpo(beta=beta, gamma=beta * ratio)(scores).value, theirs, rtol=1e-14)


@pytest.mark.parametrize("n", [1.0, 4.0, 30.0])
def test_simpo_on_equal_lengths_is_dpo_with_an_nth_of_beta(pairs, n):
    scores = pairs([-4.0, -9.0], [-6.0, -3.0], reference=(-5.0, -5.0), lengths=(n, n))
    assert torch.allclose(Simpo(beta=2.0, gamma=0.0)(scores).value, Dpo(beta=2.0 / n)(scores).value)


def test_cpo_simpo_adds_the_likelihood_loss(pairs):
    scores = pairs([-4.0], [-3.0], lengths=(2.0, 3.0))
    more = CpoSimpo(alpha=0.5)(scores).value - Simpo()(scores).value
    assert more.item() == pytest.approx(0.5 * 2)


@pytest.mark.parametrize("alpha", [-0.5, 0.25, 2.0])
def test_alpha_po_rewards_a_power_of_the_probability(pairs, alpha):
    p, q = 0.3, 0.6
    scores = pairs([2 * math.log(p)], [math.log(q)], lengths=(2.0, 1.0))
    m = 2.0 * ((1 - p**-alpha) - (1 - q**-alpha)) / alpha
    value = AlphaPo(beta=2.0, gamma=0.5, alpha=alpha)(scores).value.item()
    assert value == pytest.approx(math.log1p(math.exp(0.5 - m)), rel=1e-12)


def test_alpha_po_moves_unlikely_responses_more_or_less():
    # dr/dlog p = p^-alpha
    for alpha in (-0.5, 0.25):
        logp = torch.tensor([-3.0], dtype=torch.float64, requires_grad=True)
        (-torch.expm1(-alpha * logp) / alpha).sum().backward()
        assert logp.grad.item() == pytest.approx(math.exp(3 * alpha))


def test_token_means_need_lengths(pairs):
    for objective in (Simpo(), AlphaPo(), CpoSimpo(), Cpo()):
        with pytest.raises(ValueError, match="carries no lengths"):
            objective(pairs([-4.0], [-3.0]))
