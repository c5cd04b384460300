"""DPO and cDPO against the arithmetic of their papers."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Cdpo, Dpo


def pairs(*gaps: float, reference: float = 0.0) -> Scores:
    """One pair per gap: log pi(y0) - log pi(y1) = gap, the same under the reference = `reference`."""
    logp = torch.tensor([[gap, 0.0] for gap in gaps], dtype=torch.float64, requires_grad=True)
    anchor = torch.tensor([[reference, 0.0]] * len(gaps), dtype=torch.float64)
    return Scores(logp=logp, anchors={"reference": anchor})


def test_value_by_hand():
    # beta = 1/2, gaps 3 and 1: m = 1/2 * (3 - 1) = 1, L = log(1 + e^-1)
    losses = Dpo(beta=0.5)(pairs(3.0, reference=1.0))
    assert losses.value.item() == pytest.approx(math.log1p(math.exp(-1.0)))
    assert losses.metrics["margin"].item() == pytest.approx(1.0)


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.5])
def test_log_2_at_the_reference_for_every_beta(beta, smoothing):
    losses = Cdpo(beta=beta, smoothing=smoothing)(pairs(2.0, reference=2.0))
    assert losses.value.item() == pytest.approx(math.log(2), abs=1e-16)


def test_gradient_weights_are_opposite_and_known():
    scores = pairs(3.0, -2.0)
    Dpo(beta=0.5)(scores).value.sum().backward()
    for row, m in zip(scores.logp.grad, (1.5, -1.0), strict=True):
        weight = 0.5 / (1 + math.exp(m))  # beta * sigma(-m)
        assert row.tolist() == pytest.approx([-weight, weight])


def test_swap_identity():
    # L(w, l) - L(l, w) = -m
    scores = pairs(3.0, -7.0, 0.5)
    for objective in (Dpo(beta=0.3), Cdpo(beta=0.3, smoothing=0.0)):
        difference = objective(scores).value - objective(scores.swap()).value
        assert torch.allclose(difference, -0.3 * scores.gap())


def test_cdpo_is_the_mixture_of_both_orders():
    scores = pairs(3.0, -7.0, 0.5)
    e = 0.2
    mixture = (1 - e) * Dpo(beta=0.3)(scores).value + e * Dpo(beta=0.3)(scores.swap()).value
    assert torch.allclose(Cdpo(beta=0.3, smoothing=e)(scores).value, mixture)


def test_a_soft_label_p_is_cdpo_with_smoothing_1_minus_p():
    scores = pairs(3.0, -7.0, 0.5)
    soft = Scores(logp=scores.logp, anchors=scores.anchors, prob=torch.full((3,), 0.8, dtype=torch.float64))
    assert torch.allclose(
        reduce.expected(Dpo(beta=0.3), soft).value, Cdpo(beta=0.3, smoothing=0.2)(scores).value
    )


@pytest.mark.parametrize("e", [0.05, 0.2, 0.4])
def test_cdpo_minimiser_and_minimum(e):
    # beta = 1, so the gap is m; at m* = log((1-e)/e) the gradient is 0 and the loss the binary entropy
    best = math.log((1 - e) / e)
    scores = pairs(best - 1, best, best + 1)
    value = Cdpo(beta=1.0, smoothing=e)(scores).value
    value.sum().backward()
    slope = scores.logp.grad[:, 0]
    assert slope[1].item() == pytest.approx(0.0, abs=1e-15)
    assert slope[0] < 0 < slope[2]  # the sign turns past the minimiser
    assert value[1].item() == pytest.approx(-e * math.log(e) - (1 - e) * math.log(1 - e))


def test_cdpo_at_one_half_is_even():
    scores = pairs(-3.0, 3.0)
    value = Cdpo(beta=1.0, smoothing=0.5)(scores).value
    assert value[0].item() == pytest.approx(value[1].item(), abs=1e-15)


def test_bradley_terry_labels_make_the_policy_a_tilted_reference():
    # population gradient over all pairs of four responses is 0 at pi ~ pi_ref exp(r / beta)
    beta, generator = 0.7, torch.Generator().manual_seed(1)
    reward, reference = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    logits = (reference + reward / beta).requires_grad_()
    first, second = torch.triu_indices(4, 4, offset=1)
    ref, logp = reference.log_softmax(-1), logits.log_softmax(-1)
    scores = Scores(
        logp=torch.stack([logp[first], logp[second]], dim=1),
        anchors={"reference": torch.stack([ref[first], ref[second]], dim=1)},
        prob=torch.sigmoid(reward[first] - reward[second]),
    )
    reduce.mean(reduce.expected(Dpo(beta=beta), scores).value).backward()
    assert logits.grad.abs().max() < 1e-15


@pytest.mark.parametrize("smoothing", [-0.1, 0.6])
def test_smoothing_outside_its_range_is_refused(smoothing):
    with pytest.raises(ValueError, match="smoothing must lie in"):
        Cdpo(smoothing=smoothing)
