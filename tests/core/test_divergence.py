"""Divergences against their definitions, and the KL estimators by enumeration: values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from equipoise.core import divergence
from equipoise.core.divergence import (
    CHI_SQUARE,
    FORWARD_KL,
    JENSEN_SHANNON,
    REVERSE_KL,
    TOTAL_VARIATION,
    alpha,
    estimate,
    f_divergence,
    kl,
)

P = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
Q = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)

# f as printed in a textbook, for u > 0
TEXTBOOK = {
    "reverse": (REVERSE_KL, lambda u: u * math.log(u)),
    "forward": (FORWARD_KL, lambda u: -math.log(u)),
    "jensen": (JENSEN_SHANNON, lambda u: (u * math.log(u) - (u + 1) * math.log((u + 1) / 2)) / 2),
    "chi": (CHI_SQUARE, lambda u: (u - 1) ** 2),
    "variation": (TOTAL_VARIATION, lambda u: abs(u - 1) / 2),
    "alpha": (alpha(0.3), lambda u: (u**0.7 - 0.7 * u - 0.3) / (0.3 * -0.7)),
}
every_generator = pytest.mark.parametrize("name", TEXTBOOK)


def policies(rows: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(2, rows, 5, generator=generator, dtype=torch.float64)
    log_p, log_q = logits.log_softmax(dim=-1)
    return log_p, log_q


def test_kl_by_hand():
    # 1/2 log 2 + 1/4 log 1 + 1/4 log(1/2) = 1/4 log 2
    assert kl(P.log(), Q.log()).item() == pytest.approx(0.25 * math.log(2), abs=1e-16)


def test_values_by_hand():
    # ratios u = (2, 1, 1/2) with weights q = (1/4, 1/4, 1/2)
    assert f_divergence(P.log(), Q.log(), CHI_SQUARE).item() == pytest.approx(0.25 * 1 + 0.5 * 0.25)
    assert f_divergence(P.log(), Q.log(), TOTAL_VARIATION).item() == pytest.approx(0.25)


@every_generator
def test_the_generator_is_the_textbook_function(name):
    ours, f = TEXTBOOK[name]
    for u in (0.01, 0.5, 1.0, 3.0, 40.0):
        assert ours(torch.tensor(u, dtype=torch.float64)).item() == pytest.approx(f(u), abs=1e-13)
    # its two limits, approached
    tiny, huge = 1e-9, 1e9
    if math.isfinite(ours.at_zero):
        assert f(tiny) == pytest.approx(ours.at_zero, abs=1e-5)
    if math.isfinite(ours.at_infinity):
        assert f(huge) / huge == pytest.approx(ours.at_infinity, abs=1e-2)


@every_generator
def test_the_divergence_is_the_sum_of_the_definition(name):
    ours, f = TEXTBOOK[name]
    log_p, log_q = policies()
    for lp, lq, got in zip(log_p, log_q, f_divergence(log_p, log_q, ours), strict=True):
        logs = zip(lp.tolist(), lq.tolist(), strict=True)
        expected = sum(math.exp(b) * f(math.exp(a - b)) for a, b in logs)
        assert got.item() == pytest.approx(expected, rel=1e-12)


@every_generator
def test_nonnegative_and_zero_only_at_equality(name):
    ours, _ = TEXTBOOK[name]
    log_p, log_q = policies()
    assert bool((f_divergence(log_p, log_q, ours) > 1e-3).all())
    assert torch.allclose(f_divergence(log_p, log_p, ours), torch.zeros(20).double(), atol=1e-15)


@every_generator
def test_gradients_against_finite_differences(name):
    ours, _ = TEXTBOOK[name]
    log_p, log_q = (x.clone().requires_grad_() for x in policies(2))
    assert torch.autograd.gradcheck(
        lambda a, b: f_divergence(a.log_softmax(-1), b.log_softmax(-1), ours), (log_p, log_q)
    )


def test_relations_between_divergences():
    log_p, log_q = policies()
    assert torch.allclose(f_divergence(log_p, log_q, FORWARD_KL), kl(log_q, log_p), atol=1e-14)
    assert torch.allclose(
        f_divergence(log_p, log_q, JENSEN_SHANNON), f_divergence(log_q, log_p, JENSEN_SHANNON), atol=1e-14
    )
    assert torch.allclose(
        f_divergence(log_p, log_q, TOTAL_VARIATION), 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)
    )
    # the ends of the alpha family are the two KLs
    assert torch.allclose(f_divergence(log_p, log_q, alpha(1e-6)), kl(log_p, log_q), atol=1e-5)
    assert torch.allclose(f_divergence(log_p, log_q, alpha(1 - 1e-6)), kl(log_q, log_p), atol=1e-5)
    # Pinsker: TV <= sqrt(KL / 2)
    assert bool((f_divergence(log_p, log_q, TOTAL_VARIATION) <= (kl(log_p, log_q) / 2).sqrt() + 1e-15).all())


def test_missing_support():
    log_p = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64).log()
    log_q = torch.tensor([0.5, 0.0, 0.5, 0.0], dtype=torch.float64).log()
    assert kl(log_p, log_q).item() == math.inf
    assert kl(log_p, log_p).item() == 0.0  # 0 log 0 = 0
    whole = torch.full((4,), 0.25, dtype=torch.float64).log()
    assert kl(log_p, whole).item() == pytest.approx(math.log(2))
    assert kl(whole, log_p).item() == math.inf
    # half of the mass is shared: TV = 1/2, JS = 1/2 log 2, both finite
    assert f_divergence(log_p, log_q, TOTAL_VARIATION).item() == pytest.approx(0.5)
    assert f_divergence(log_p, log_q, JENSEN_SHANNON).item() == pytest.approx(0.5 * math.log(2))
    # disjoint supports reach the largest value f(0) + lim f(u)/u
    apart = log_p, torch.tensor([0.0, 0.0, 0.5, 0.5], dtype=torch.float64).log()
    assert f_divergence(*apart, JENSEN_SHANNON).item() == pytest.approx(math.log(2))
    assert f_divergence(*apart, alpha(0.3)).item() == pytest.approx(1 / 0.7 + 1 / 0.3)


def test_gradients_stay_finite_next_to_missing_support():
    logits = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([0.0, 0.0, -math.inf], dtype=torch.float64)
    log_q = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log()
    kl((logits + mask).log_softmax(-1), log_q).backward()
    assert bool(logits.grad.isfinite().all())
    assert logits.grad[2].item() == 0.0


# estimators: every expectation below is an exact sum over the three outcomes --------------------


def expectation(kind: divergence.Estimator) -> float:
    return (P * estimate(P.log(), Q.log(), kind)).sum().item()


def test_k1_and_k3_are_unbiased_and_k2_is_not():
    exact = kl(P.log(), Q.log()).item()
    assert expectation("k1") == pytest.approx(exact, abs=1e-15)
    assert expectation("k3") == pytest.approx(exact, abs=1e-15)
    # a = (log 2, 0, -log 2) with weights (1/2, 1/4, 1/4): E a^2/2 = 3/8 log^2 2 = 0.1802, KL = 0.1733
    assert expectation("k2") == pytest.approx(0.375 * math.log(2) ** 2, abs=1e-15)
    assert abs(expectation("k2") - exact) > 5e-3


def test_k2_is_right_to_second_order():
    # bring the policies together by h: the KL shrinks as h^2, the bias of k2 as h^3
    direction = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64)
    ratios = []
    for h in (1e-1, 1e-2):
        log_p = (Q.log() + h * direction).log_softmax(-1)
        bias = (log_p.exp() * estimate(log_p, Q.log(), "k2")).sum() - kl(log_p, Q.log())
        ratios.append((bias / h**3).item())
    assert ratios[0] == pytest.approx(ratios[1], rel=0.2)


def test_signs_and_zeros():
    a = torch.arange(-30, 31, dtype=torch.float64) / 10
    zero = torch.zeros_like(a)
    assert bool((estimate(a, zero, "k2") >= 0).all())
    k3 = estimate(a, zero, "k3")
    assert bool((k3 >= 0).all())
    assert bool(((k3 == 0) == (a == 0)).all())
    assert estimate(a, zero, "k1").min() < 0


def test_k3_keeps_its_digits_near_zero():
    # the naive exp(-a) - 1 + a is lost to rounding at a = 1e-6 in float32: a^2/2 = 5e-13
    a = torch.tensor([1e-3])
    assert estimate(a, torch.zeros(1), "k3").item() == pytest.approx(5e-7, rel=0.2)
    assert estimate(a.double(), torch.zeros(1).double(), "k3").item() == pytest.approx(5e-7, rel=1e-3)


def gradient_of(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_expected_gradient_as_a_loss(kind):
    logits = P.log().clone().requires_grad_()
    log_p = logits.log_softmax(-1)
    got = gradient_of((P * estimate(log_p, Q.log(), kind)).sum(), logits)  # samples held fixed: P is constant
    claim = {
        "k1": torch.zeros(3, dtype=torch.float64),
        "k2": gradient_of(kl(logits.log_softmax(-1), Q.log()), logits),
        "k3": gradient_of(kl(Q.log(), logits.log_softmax(-1)), logits),
    }
    assert torch.allclose(got, claim[kind], atol=1e-15)
    for other in set(claim) - {kind}:
        assert not torch.allclose(got, claim[other], atol=1e-2)  # the three claims differ here


def test_k1_as_a_reward_has_the_right_gradient():
    logits = P.log().clone().requires_grad_()
    reward = estimate(P.log(), Q.log(), "k1")  # detached, as rewards are
    got = gradient_of((P * reward * logits.log_softmax(-1)).sum(), logits)
    want = gradient_of(kl(logits.log_softmax(-1), Q.log()), logits)
    assert torch.allclose(got, want, atol=1e-15)


def test_refusals():
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
        alpha(1.0)
