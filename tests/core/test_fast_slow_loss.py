"""Fast-slow chasing: two DPO runs and the contest of their margins."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Dpo, FastSlowDpo

LOG2 = math.log(2)
FAST, SLOW = FastSlowDpo(beta=0.5, chase=0.3), FastSlowDpo(beta=0.5, chase=0.3, slow=True)
both = pytest.mark.parametrize("objective", [FAST, SLOW], ids=["fast", "slow"])


def pair(own: float, rival: float, reference: float = 0.0) -> Scores:
    """One pair with these gaps between chosen and rejected."""

    def gap(value: float):
        return torch.tensor([[value, 0.0]], dtype=torch.float64)

    return Scores(logp=gap(own).requires_grad_(), anchors={"reference": gap(reference), "rival": gap(rival)})


def slope(objective, scores: Scores) -> float:
    """On the chosen response; the rejected one has the opposite."""
    (grad,) = torch.autograd.grad(objective(scores).value.sum(), scores.logp)
    assert grad[0, 1] == -grad[0, 0]
    return grad[0, 0].item()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_value_by_hand():
    # beta = 1/2, h_own = 4 - 2 = 2, h_rival = 1 - 2 = -1: margin 1; the lead of the fast over the slow is +-3/2
    scores = pair(4.0, 1.0, reference=2.0)
    assert FAST(scores).value.item() == pytest.approx(softplus(-1.0) + 0.3 * softplus(-1.5))
    assert SLOW(scores).value.item() == pytest.approx(softplus(-1.0) - 0.3 * softplus(1.5))


@both
def test_without_a_chase_it_is_dpo(objective):
    scores = pair(4.0, 1.0)
    alone = FastSlowDpo(beta=0.5, chase=0.0, slow=objective.slow)
    assert alone(scores).value.equal(Dpo(beta=0.5)(scores).value)


@both
def test_where_both_agree_either_is_pulled_up_alike(objective):
    scores = pair(1.2, 1.2)
    assert objective(scores).metrics["contest"].item() == pytest.approx(LOG2)
    extra = slope(objective, scores) - slope(Dpo(beta=0.5), scores)
    assert extra == pytest.approx(-0.3 * 0.5 / 2)


def test_the_contest_fades_once_the_fast_one_leads_and_is_the_same_from_either_side():
    fast, slow = 12.0, -6.0
    ahead, behind = pair(fast, slow), pair(slow, fast)
    assert FAST(ahead).metrics["contest"].equal(SLOW(behind).metrics["contest"])
    for objective, scores in ((FAST, ahead), (SLOW, behind)):
        extra = slope(objective, scores) - slope(Dpo(beta=0.5), scores)
        assert extra == pytest.approx(-0.3 * 0.5 / (1 + math.exp(9.0)))  # sigma(-beta (h_fast - h_slow))


def test_a_slow_one_that_leads_gains_at_most_the_clamp():
    # unclamped -chase L_FS would fall linearly with h_slow, without end
    gains = [
        SLOW(pair(lead, 0.0)).value.item() - Dpo(beta=0.5)(pair(lead, 0.0)).value.item()
        for lead in (10.0, 1e3, 1e6)
    ]
    assert gains == pytest.approx([-0.3 * softplus(5.0), -0.3 * softplus(10.0), -0.3 * softplus(10.0)])
    assert slope(SLOW, pair(1e3, 0.0)) == pytest.approx(0.0, abs=1e-100)


@both
def test_the_reference_cancels_in_the_contest(objective):
    here, there = pair(4.0, 1.0), pair(4.0, 1.0, reference=7.0)
    assert objective(here).metrics["contest"].equal(objective(there).metrics["contest"])
    assert objective(here).metrics["margin"] != objective(there).metrics["margin"]
