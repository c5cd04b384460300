"""EXO on pairs and DiscoPOP against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core.objectives import Cdpo, DiscoPop, ExoPair


@pytest.mark.parametrize("e", [0.01, 0.2, 0.45])
def test_exo_is_a_reverse_kl_with_its_zero_at_the_smoothed_label(margins, e):
    best = math.log((1 - e) / e)
    scores = margins(best - 1, best, best + 1)
    value = ExoPair(beta=1.0, smoothing=e)(scores).value
    value.sum().backward()
    q = torch.sigmoid(scores.gap().detach())
    kl = q * (q / (1 - e)).log() + (1 - q) * ((1 - q) / e).log()
    assert torch.allclose(value, kl, rtol=1e-10, atol=1e-14)
    assert value[1].item() == pytest.approx(0.0, abs=1e-15)
    slope = scores.logp.grad[:, 0]
    assert slope[1].item() == pytest.approx(0.0, abs=1e-14)
    assert slope[0] < 0 < slope[2]


def test_exo_fades_far_away_where_conservative_dpo_does_not(margins):
    for objective, pull in ((ExoPair(beta=1.0, smoothing=0.1), 0.0), (Cdpo(beta=1.0, smoothing=0.1), 0.9)):
        scores = margins(-50.0)
        objective(scores).value.sum().backward()
        assert -scores.logp.grad[0, 0].item() == pytest.approx(pull, abs=1e-12)


def test_discopop_is_logistic_on_the_left_and_exponential_on_the_right(margins):
    left, right = DiscoPop(beta=1.0)(margins(-4.0, 4.0)).value.tolist()
    assert left == pytest.approx(math.log1p(math.exp(4.0)), rel=1e-12)
    assert right == pytest.approx(math.exp(-4.0), rel=1e-12)


def test_discopop_first_step_lowers_the_margin(margins):
    # L' = -(sigma(0) + 1)/2 + (1 - log 2)/(4 t) at m = 0
    scores = margins(0.0)
    DiscoPop(beta=1.0, temperature=0.05)(scores).value.sum().backward()
    assert scores.logp.grad[0, 0].item() == pytest.approx(-0.75 + (1 - math.log(2)) / 0.2)
    assert scores.logp.grad[0, 0] > 0
    broad = margins(0.0)
    DiscoPop(beta=1.0, temperature=0.2)(broad).value.sum().backward()
    assert broad.logp.grad[0, 0] < 0


def test_discopop_falls_again_from_about_a_tenth_on(margins):
    scores = margins(0.05, 0.1, 0.15, 0.5, 3.0)
    DiscoPop(beta=1.0)(scores).value.sum().backward()
    assert (scores.logp.grad[:, 0] > 0).tolist() == [True, False, False, False, False]


def test_smoothing_of_zero_is_refused():
    with pytest.raises(ValueError, match="smoothing must lie in"):
        ExoPair(smoothing=0.0)
