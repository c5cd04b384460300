"""SPAC's preference loss and its pessimism: hand arithmetic and the properties of the derivation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Dpo, Spac

LOG2 = math.log(2)


def rows(*ratios: tuple[float, float, float]) -> Scores:
    """Comparisons with those log-ratios (chosen, rejected, own response) to the previous policy."""
    logp = torch.tensor(ratios, dtype=torch.float64, requires_grad=True)
    return Scores(logp=logp, anchors={"previous": torch.zeros_like(logp)})


def gradient(objective: Spac, scores: Scores) -> list[list[float]]:
    (grad,) = torch.autograd.grad(objective(scores).value.sum(), scores.logp)
    return grad.tolist()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("mode", ["smooth", "linear"])
def test_value_by_hand(mode):
    # b = 1/2, ratios (4, 2, 1): margin 1; u = 1/2 (1 - 4) = -1.5 against the chosen, -0.5 the rejected
    losses = Spac(b=0.5, w_pref=3.0, w_pess=2.0, mode=mode)(rows((4.0, 2.0, 1.0)))
    pessimism = -1.0 if mode == "linear" else softplus(-1.5) + softplus(-0.5)  # mean of two, times 2
    assert losses.value.item() == pytest.approx(3 * softplus(-1.0) + 2 * pessimism)
    assert losses.metrics["margin"].item() == pytest.approx(1.0)
    assert losses.metrics["pessimism"].item() == pytest.approx(pessimism)


@pytest.mark.parametrize("mode, at_anchor", [("smooth", 3 * LOG2 + 2 * 2 * LOG2), ("linear", 3 * LOG2)])
def test_value_at_the_previous_policy(mode, at_anchor):
    losses = Spac(b=0.5, w_pref=3.0, w_pess=2.0, mode=mode)(rows((0.0, 0.0, 0.0)))
    assert losses.value.item() == pytest.approx(at_anchor)


@pytest.mark.parametrize("mode", ["smooth", "linear"])
def test_first_order_weights_at_the_previous_policy(mode):
    # preference -+ b w_pref/2; pessimism -b w_pess/2 on BOTH data responses and +b w_pess on the own one
    b, pref, pess = 0.5, 1.0, 4.0
    (got,) = gradient(Spac(b=b, w_pref=pref, w_pess=pess, mode=mode), rows((0.0, 0.0, 0.0)))
    assert got == pytest.approx([-b * (pref + pess) / 2, b * (pref - pess) / 2, b * pess])
    # with strong pessimism the rejected response is pushed up too; chosen minus rejected keeps its sign
    assert got[1] < 0
    assert got[0] - got[1] == pytest.approx(-b * pref)


def test_without_pessimism_it_is_dpo_with_the_previous_policy_as_reference():
    scores = rows((4.0, 2.0, 1.0), (-3.0, 0.5, 9.0))
    renamed = replace(scores, anchors={"reference": scores.of("previous")})
    for mode in ("smooth", "linear"):
        got = Spac(b=0.3, w_pref=1.0, w_pess=0.0, mode=mode)(scores).value
        assert torch.allclose(got, Dpo(beta=0.3)(renamed).value)


def test_expected_linear_pessimism_at_the_previous_policy_is_likelihood_of_the_data():
    # one prompt, four responses; own response enumerated under pi_t. Expected gradient = -b E_mu grad log pi
    b = 0.5
    policy = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    logits = policy.log().clone().requires_grad_()
    logp = logits.log_softmax(-1)
    data, own = torch.tensor([0, 2]), torch.arange(4)  # chosen 0, rejected 2: mu = 1/2, 1/2
    candidates = torch.cat([data.expand(4, 2), own[:, None]], dim=1)
    scores = Scores(logp=logp[candidates], anchors={"previous": policy.log()[candidates]})
    only_pessimism = Spac(b=b, w_pref=0.0, w_pess=1.0, mode="linear")
    (got,) = torch.autograd.grad((policy * only_pessimism(scores).value).sum(), logits, retain_graph=True)
    (want,) = torch.autograd.grad(-b * logp[data].mean(), logits)
    assert torch.allclose(got, want, atol=1e-15)


@pytest.mark.parametrize("mode", ["smooth", "linear"])
def test_if_the_data_come_from_the_previous_policy_the_first_step_is_dpos(mode):
    # every (y0, y1, y2) with its probability under pi_t: the pessimism's gradient cancels
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    logits = policy.log().clone().requires_grad_()
    triples = torch.cartesian_prod(*[torch.arange(3)] * 3)
    scores = Scores(logp=logits.log_softmax(-1)[triples], anchors={"previous": policy.log()[triples]})
    only_pessimism = Spac(w_pref=0.0, w_pess=1.0, mode=mode)
    loss = (policy[triples].prod(dim=1) * only_pessimism(scores).value).sum()
    (got,) = torch.autograd.grad(loss, logits)
    assert got.abs().max() < 1e-15


def test_linear_pessimism_has_no_lower_bound_without_its_box_and_smooth_has_zero():
    escape = [rows((0.0, 0.0, own)) for own in (-1e1, -1e3, -1e5)]  # the own response is unlearned
    unboxed = Spac(b=0.1, w_pref=0.0, w_pess=1.0, mode="linear", clip=math.inf)
    assert [unboxed(s).value.item() for s in escape] == pytest.approx([-1.0, -1e2, -1e4])
    boxed = Spac(b=0.1, w_pref=0.0, w_pess=1.0, mode="linear", clip=10.0)
    assert [boxed(s).value.item() for s in escape] == pytest.approx([-1.0, -1.0, -1.0])
    smooth = Spac(w_pref=0.0, w_pess=1.0, mode="smooth")
    assert all(smooth(s).value.item() >= 0 for s in escape)
    assert smooth(escape[-1]).value.item() == 0.0


@pytest.mark.parametrize("mode", ["smooth", "linear"])
def test_pessimism_ignores_the_label_and_a_constant(mode):
    scores = rows((4.0, 2.0, 1.0), (-3.0, 0.5, 2.0))
    objective = Spac(mode=mode)
    here = objective(scores).metrics["pessimism"]
    assert torch.allclose(objective(scores.swap()).metrics["pessimism"], here, atol=1e-15)
    shifted = replace(scores, logp=scores.logp + 3.0)
    assert torch.allclose(objective(shifted).metrics["pessimism"], here, atol=1e-14)


def test_both_modes_agree_to_first_order():
    # smooth = 2 log 2 + linear + O(u^2)
    small = rows((1e-4, -2e-4, 3e-4))
    smooth, linear = (
        Spac(b=1.0, mode=mode)(small).metrics["pessimism"].item() for mode in ("smooth", "linear")
    )
    assert smooth - 2 * LOG2 == pytest.approx(linear, abs=1e-7)


@pytest.mark.parametrize(
    "illegal",
    [
        {"mode": "hard"},
        {"w_pref": -1.0},
        {"w_pess": -1.0},
        {"w_pref": 0.0, "w_pess": 0.0},
        {"w_pref": math.inf},
        {"clip": 0.0},
    ],
)
def test_illegal_parameters_are_refused(illegal, no_shape_types):
    with pytest.raises(ValueError, match="must be"):
        Spac(**illegal)
