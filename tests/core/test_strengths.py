"""The strength of a preference as the label: OSP's soft-preference cross-entropy is DPO in expectation over labels."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Cdpo, Dpo

MARGINS = torch.linspace(-4, 4, 41, dtype=torch.float64)


def spce(margins, p, beta=0.1):
    zero = torch.zeros_like(margins)
    logp = torch.stack([margins / beta, zero], dim=1)
    scores = Scores(
        logp=logp, anchors={"reference": torch.zeros_like(logp)}, prob=torch.full_like(margins, p)
    )
    return reduce.expected(Dpo(beta=beta), scores).value


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_it_is_the_cross_entropy_with_a_soft_label(p):
    want = -(p * logsigmoid(MARGINS) + (1 - p) * logsigmoid(-MARGINS))
    assert torch.allclose(spce(MARGINS, p), want, rtol=1e-12)
    bce = binary_cross_entropy_with_logits(MARGINS, torch.full_like(MARGINS, p), reduction="none")
    assert torch.allclose(spce(MARGINS, p), bce, rtol=1e-12)


def test_a_certain_strength_is_dpo_and_one_less_e_is_conservative():
    logp = torch.stack([MARGINS / 0.1, torch.zeros_like(MARGINS)], dim=1)
    scores = Scores(logp=logp, anchors={"reference": torch.zeros_like(logp)})
    assert torch.equal(spce(MARGINS, 1.0), Dpo(beta=0.1)(scores).value)
    assert torch.allclose(spce(MARGINS, 0.7), Cdpo(beta=0.1, smoothing=1 - 0.7)(scores).value, rtol=1e-12)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_it_is_least_where_the_margin_is_the_log_odds_of_the_strength(p):
    best = torch.tensor([p], dtype=torch.float64).logit().requires_grad_()
    (slope,) = torch.autograd.grad(spce(best, p).sum(), best)
    assert abs(float(slope)) < 1e-15
    excess = spce(MARGINS, p) - spce(best.detach(), p)
    q = MARGINS.sigmoid()
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert torch.allclose(excess, divergence, rtol=0, atol=1e-14)


def test_turning_the_pair_and_the_strength_changes_nothing():
    assert torch.allclose(spce(MARGINS, 0.3), spce(-MARGINS, 0.7), rtol=1e-12)


def test_an_even_strength_pulls_the_margin_to_zero():
    margins = MARGINS[MARGINS != 0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(spce(margins, 0.5).sum(), margins)
    assert bool((slope.sign() == margins.detach().sign()).all())
