"""SePPO's loss: the sign of an own sample, its limits, and what carries a gradient."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core.objectives import Dpo, Seppo
from equipoise.core.scores import Scores


def scores(policy: list[list[float]], reference: list[list[float]]) -> Scores:
    logp = torch.tensor(policy, dtype=torch.float64, requires_grad=True)
    return Scores(logp=logp, anchors={"reference": torch.tensor(reference, dtype=torch.float64)})


@pytest.mark.parametrize(("criterion", "sign"), [("flip", -1.0), ("ignore", 0.0), ("none", 1.0)])
def test_where_the_reference_is_the_better_one_on_the_winner(criterion, sign):
    batch = scores([[-2.0, -1.0]], [[-1.5, -1.3]])  # log-ratios -0.5 and 0.3
    margin = 2.0 * (-0.5 - sign * 0.3)
    found = Seppo(beta=2.0, criterion=criterion)(batch)
    assert found.value.item() == pytest.approx(math.log1p(math.exp(-margin)), abs=1e-12)
    assert found.metrics["flipped"].item() == (criterion == "flip")


def test_where_the_policy_is_the_better_one_all_criteria_are_dpo():
    batch = scores([[-1.0, -2.0]], [[-1.5, -1.3]])
    wanted = Dpo(beta=0.7)(batch).value
    for criterion in ("flip", "ignore", "none"):
        assert torch.equal(Seppo(beta=0.7, criterion=criterion)(batch).value, wanted)


def test_at_the_reference_only_the_winner_is_moved():
    batch = scores([[-1.0, -2.0]], [[-1.0, -2.0]])
    loss = Seppo(beta=2.0)(batch).value.sum()
    (gradient,) = torch.autograd.grad(loss, batch.logp)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)
    assert gradient.tolist() == [[-1.0, 0.0]]  # -beta sigma(0), and nothing on the sample


def test_the_sign_is_a_constant():
    """The gradient is that of the margin with a fixed sign, from either side of the point where it turns."""
    for winner, sign in ((-1.0 - 1e-9, -1.0), (-1.0 + 1e-9, 1.0)):
        batch = scores([[winner, -2.0]], [[-1.0, -2.4]])
        (gradient,) = torch.autograd.grad(Seppo(beta=1.0)(batch).value.sum(), batch.logp)
        weight = torch.sigmoid(torch.tensor(sign * 0.4)).item()  # sigma(-margin), margin = -sign * 0.4
        assert gradient[0].tolist() == pytest.approx([-weight, sign * weight], abs=1e-6)


def test_a_beta_out_of_range_is_refused():
    with pytest.raises(ValueError, match="beta"):
        Seppo(beta=0.0)
