"""Hinge losses: flat once the margin is met; the two parametrisations."""

from __future__ import annotations

import pytest
import torch

from equipoise.core.objectives import Hinge, HingeNorm, Slic

each_hinge = pytest.mark.parametrize("objective", [Hinge(gamma=0.5), HingeNorm(gamma=0.5)])


@each_hinge
def test_a_line_until_the_margin_is_met_and_then_nothing(margins, objective):
    # 1/gamma = 2 nats: gaps 1, 2, 3
    scores = margins(1.0, 2.0, 3.0)
    losses = objective(scores)
    losses.value.sum().backward()
    assert losses.value.tolist() == [0.5, 0.0, 0.0]
    # 0 at the kink as well
    assert scores.logp.grad.tolist() == [[-0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]


def test_hinge_norm_reads_ratios_and_hinge_log_probs(pairs):
    scores = pairs([-3.0], [-5.0], reference=(-4.0, -5.0))
    assert Hinge(gamma=0.25)(scores).value.item() == 0.5
    assert HingeNorm(gamma=0.25)(scores).value.item() == 0.75


def test_slic_by_hand(pairs):
    # delta 3: 3 - (-2) + (-4) = 1; likelihood 1/2 * 2
    scores = pairs([-2.0], [-4.0])
    losses = Slic(delta=3.0, lam=0.5)(scores)
    losses.value.sum().backward()
    assert losses.value.item() == pytest.approx(2.0)
    assert scores.logp.grad.tolist()[0] == pytest.approx([-1.5, 1.0])


@pytest.mark.parametrize("delta", [0.5, 1.0, 4.0])
def test_delta_is_an_overall_factor_and_one_over_gamma(pairs, delta):
    scores = pairs([-2.0, -9.0], [-4.0, -3.0])
    nats = torch.relu(delta - scores.gap())
    assert torch.allclose(Slic(delta=delta, lam=0.0)(scores).value, nats)
    assert torch.allclose(delta * Hinge(gamma=1 / delta)(scores).value, nats)


def test_the_likelihood_term_goes_on_when_the_margin_is_met(pairs):
    scores = pairs([-1.0], [-50.0])
    Slic(delta=1.0, lam=0.1)(scores).value.sum().backward()
    assert scores.logp.grad.tolist()[0] == pytest.approx([-0.1, 0.0])
