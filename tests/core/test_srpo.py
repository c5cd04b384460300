"""SRPO's residuals by hand, its six columns, and what a label swap means for them."""

from __future__ import annotations

import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Ipo
from equipoise.core.objectives.srpo import Srpo

WIDE = torch.float64


def batch(*ratios: list[float], prob: float | None = None) -> Scores:
    """Rows of six log-ratios; policy and reference are both far from 0."""
    ratio = torch.tensor(ratios, dtype=WIDE)
    anchor = -10 - torch.arange(6, dtype=WIDE).expand_as(ratio)
    label = None if prob is None else torch.full((len(ratio),), prob, dtype=WIDE)
    return Scores(logp=(anchor + ratio).requires_grad_(), anchors={"reference": anchor}, prob=label)


def test_the_residuals_by_hand():
    # B(w) 3, B(l) 1, A(w|l) 5, A(l|w) 2, A(w|w) 4, A(l|l) 1; beta 1/2:
    # margin (5 - 2 + 3 - 1)/2 = 2.5, residual 1.5; improver (5 - 1)/2 = 2 and (4 - 2)/2 = 1, residuals 1.5 and 0.5
    # L = 3/4 * 2.25 + 1/4 * (2.25 + 0.25) = 2.3125
    scores = batch([3.0, 1.0, 5.0, 2.0, 4.0, 1.0])
    losses = Srpo(beta=0.5, alpha=0.25)(scores)
    assert losses.value.tolist() == [2.3125]
    assert losses.metrics["margin"].tolist() == [2.5]
    assert losses.metrics["improvement"].tolist() == [1.5]
    losses.value.sum().backward()
    # 2 beta (1 - alpha) 1.5 = 1.125 on the margin; 2 beta alpha 1.5 = 0.375 and 2 beta alpha 0.5 = 0.125
    assert scores.logp.grad.tolist() == [[1.125, -1.125, 1.5, -1.25, 0.125, -0.375]]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_at_the_reference(alpha):
    assert Srpo(alpha=alpha)(batch([0.0] * 6)).value.tolist() == [pytest.approx(1 - alpha / 2)]


def test_one_policy_in_one_role_is_ipo():
    """Where the improver ignores the given answer, A = B: the margin is 2 beta times IPO's, each residual 1/2 of it."""
    beta, alpha = 0.3, 0.4
    tied = batch([3.0, 1.0, 3.0, 1.0, 3.0, 1.0], [-2.0, 0.5, -2.0, 0.5, -2.0, 0.5])
    ipo = Ipo(tau=beta)(tied).value
    assert torch.allclose(Srpo(beta=beta, alpha=0.0)(tied).value, 4 * beta**2 * ipo)
    assert torch.allclose(Srpo(beta=beta, alpha=alpha)(tied).value, (4 - 2 * alpha) * beta**2 * ipo)


def test_a_swap_turns_the_pair_in_all_six_columns():
    objective = Srpo()
    turned = reduce.swap(objective, batch([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], prob=0.75))
    assert turned.log_ratio("reference").tolist() == [[1.0, 0.0, 3.0, 2.0, 5.0, 4.0]]
    assert turned.of("reference").tolist() == [[-11.0, -10.0, -13.0, -12.0, -15.0, -14.0]]
    assert turned.prob.tolist() == [0.25]
    back = reduce.swap(objective, turned)
    assert back.logp.equal(batch([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).logp)
    assert objective(back).metrics["margin"].equal(-objective(turned).metrics["margin"])


def test_other_objectives_exchange_the_first_two_columns_only():
    turned = reduce.swap(Ipo(), batch([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    assert turned.log_ratio("reference").tolist() == [[1.0, 0.0, 2.0, 3.0, 4.0, 5.0]]


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_soft_labels_are_fitted_by_both_identities(p):
    """Loss and gradient where beta [A(w|l) - A(l|l)] = beta [A(w|w) - A(l|w)] = p - 1/2 and margin = 2p - 1."""
    beta, alpha = 0.4, 0.3
    half = (p - 0.5) / beta
    scores = batch([0.0, 0.0, half, -half, 0.0, 0.0], prob=p)
    losses = reduce.expected(Srpo(beta=beta, alpha=alpha), scores).value
    # what is left is the variance of the label: of 2y - 1 in the robust part, twice of y in the improver's
    assert losses.item() == pytest.approx((1 - alpha) * 4 * p * (1 - p) + alpha * 2 * p * (1 - p))
    losses.sum().backward()
    assert scores.logp.grad.abs().max() < 1e-15


@pytest.mark.parametrize("setting", [{"beta": 0.0}, {"alpha": -0.1}, {"alpha": 1.1}, {"alpha": float("nan")}])
def test_refuses(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Srpo(**setting)


def test_needs_six_columns():
    scores = Scores(logp=torch.zeros(1, 5), anchors={"reference": torch.zeros(1, 5)})
    with pytest.raises(ValueError):
        Srpo()(scores)
