"""The margin equation: its special cases, its limits, and the pair losses as the case of one negative."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from equipoise.core import reduce
from equipoise.core.margins import robust
from equipoise.core.objectives import Dpo, MarginLoss, ReferenceFreeDpo
from equipoise.core.objectives.label_margins import (
    LogMean,
    PhiLink,
    label_margins,
    margin_loss,
    with_label_first,
)
from equipoise.core.scores import Scores

TAUS = (0.0, 0.3, 0.999, 1.0, 1.001, 1.5, 2.0, 3.0)


def drawn(rows: int = 50, labels: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    return scores, torch.randint(labels, (rows,), generator=generator)


def comp_sum(scores: Tensor, label: Tensor, tau: float) -> Tensor:
    return margin_loss(label_margins(scores, label), link=PhiLink(tau=tau))


def test_cross_entropy_is_tau_one():
    scores, label = drawn()
    plain = cross_entropy(scores, label, reduction="none")
    assert torch.allclose(comp_sum(scores, label, 1.0), plain, rtol=1e-12)
    assert torch.allclose(MarginLoss()(with_label_first(scores, label)).value, plain, rtol=1e-12)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.7, 1.0])
def test_generalised_cross_entropy_and_mean_absolute_error(q: float):
    """GCE (1 - p^q)/q is tau = 1 + q; q = 1 is MAE on the softmax."""
    scores, label = drawn()
    p = scores.softmax(dim=1).gather(1, label[:, None])[:, 0]
    assert torch.allclose(comp_sum(scores, label, 1 + q), (1 - p**q) / q, rtol=1e-11)


def test_sum_of_exponentials_is_tau_zero():
    scores, label = drawn()
    whole = (scores - scores.gather(1, label[:, None])).exp().sum(dim=1) - 1
    assert torch.allclose(comp_sum(scores, label, 0.0), whole, rtol=1e-11)


def test_phi_is_continuous_at_one_and_the_loss_falls_with_tau():
    scores, label = drawn()
    at_one = comp_sum(scores, label, 1.0)
    for tau in (1 - 1e-7, 1 + 1e-7):
        assert torch.allclose(comp_sum(scores, label, tau), at_one, rtol=1e-5)
    values = torch.stack([comp_sum(scores, label, tau) for tau in TAUS])
    assert bool((values[1:] < values[:-1]).all())


def test_a_far_wrong_example_stays_finite_below_tau_one():
    scores = torch.tensor([[0.0, 500.0]], requires_grad=True)
    value = comp_sum(scores, torch.tensor([0]), 0.0)
    value.sum().backward()
    assert value.isfinite().all() and scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.parametrize("prob", [1.0, 0.5, 0.2])
def test_one_negative_is_a_pair_loss(prob: float):
    """With K = 2, tau = 1: DPO without reference, CPL with k = 1; a reference is subtracted from the scores."""
    generator = torch.Generator().manual_seed(1)
    logp, anchor = torch.randn(2, 40, 2, dtype=torch.float64, generator=generator)
    label = torch.full((40,), prob, dtype=torch.float64)
    pair = Scores(logp=0.3 * logp, prob=label)
    ours = reduce.expected(MarginLoss(), pair).value
    plain = reduce.expected(ReferenceFreeDpo(beta=0.3), Scores(logp=logp, prob=label)).value
    assert torch.allclose(ours, plain, rtol=1e-12)
    ratios = Scores(logp=0.1 * (logp - anchor), prob=label)
    dpo = reduce.expected(Dpo(beta=0.1), Scores(logp=logp, anchors={"reference": anchor}, prob=label)).value
    assert torch.allclose(reduce.expected(MarginLoss(), ratios).value, dpo, rtol=1e-12)


def test_info_nce_by_hand_with_a_mask():
    similarities = torch.tensor([[0.9, 0.1, 0.5, -0.2]], dtype=torch.float64)
    margins = similarities[:, :1] - similarities[:, 1:]
    kept = torch.tensor([[True, True, False]])
    value = margin_loss(margins, temperature=0.2, kept=kept)
    top, rest = math.exp(0.9 / 0.2), math.exp(0.1 / 0.2) + math.exp(0.5 / 0.2)
    assert value.item() == pytest.approx(-math.log(top / (top + rest)), rel=1e-12)
    mean = margin_loss(margins, temperature=0.2, link=LogMean(), power=1.0, kept=kept)
    assert mean.item() == pytest.approx(0.2 * math.log(rest / top / 2), rel=1e-12)
    assert margin_loss(margins, kept=torch.zeros_like(kept)).item() == 0.0


def test_a_temperature_for_each_example_carries_its_gradient():
    scores, label = drawn(5)
    t = torch.linspace(0.5, 2, 5, dtype=torch.float64, requires_grad=True)
    margins = label_margins(scores, label)
    assert torch.autograd.gradcheck(
        lambda x: margin_loss(margins, temperature=x, power=1.0, offset=0.2), (t,)
    )
    alone = [margin_loss(margins[i : i + 1], temperature=t[i].item(), power=1.0) for i in range(5)]
    assert torch.allclose(margin_loss(margins, temperature=t, power=1.0), torch.cat(alone))


def test_bad_input_is_refused():
    scores, label = drawn(4)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.5, got"):
        label_margins(scores, label.clamp(min=6))
    with pytest.raises(ValueError, match="two labels or more"):
        label_margins(scores[:, :1], label * 0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        margin_loss(label_margins(scores, label), temperature=0.0)
    with pytest.raises(ValueError, match="tau"):
        PhiLink(tau=-1.0)
    with pytest.raises(ValueError, match="temperature"):
        MarginLoss(temperature=0.0)


# LDR and ALDR -----------------------------------------------------------------------------------


def test_ldr_is_cross_entropy_less_log_k_and_the_hinge_and_the_mean():
    scores, label = drawn()
    plain = cross_entropy(scores, label, reduction="none")
    assert torch.allclose(robust.ldr_loss(scores, label, 1.0), plain - math.log(6), atol=1e-12)
    d = robust._differences(scores, label, 0.1)
    # within lambda log K of the maximum, and within range^2/(8 lambda) of the mean
    assert torch.allclose(robust.ldr_loss(scores, label, 1e-3, 0.1), d.amax(dim=1), atol=2e-3)
    assert torch.allclose(robust.ldr_loss(scores, label, 1e6, 0.1), d.mean(dim=1), atol=1e-4)
    over_labels = sum(robust.ldr_loss(scores, torch.full_like(label, k), 1e7) for k in range(6))
    assert torch.allclose(torch.as_tensor(over_labels), torch.zeros(50, dtype=torch.float64), atol=1e-4)


def test_the_softmax_maximises_the_inner_problem():
    scores, label = drawn()
    t = torch.full((50,), 0.7, dtype=torch.float64)
    loss = robust.Aldr(centre=0.7, margin=0.1)
    p = robust.label_distribution(scores, label, t, 0.1)
    best = loss.inner(scores, label, p, t)
    assert torch.allclose(best, robust.ldr_loss(scores, label, t, 0.1), rtol=1e-10)
    kl = robust.kl_from_uniform(p)
    assert bool((kl >= 0).all() and (kl <= math.log(6)).all())
    for seed in range(20):
        other = torch.randn(
            50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        ).softmax(1)
        assert bool((loss.inner(scores, label, other, t) <= best + 1e-12).all())


@pytest.mark.parametrize("alpha", [1.1, 2.0, 5.0])
def test_aldr_sweeps_never_lower_the_objective_and_keep_lambda_in_its_range(alpha: float):
    scores, label = drawn()
    loss = robust.Aldr(centre=1.0, alpha=alpha, margin=0.1)
    t = torch.full((50,), 1.0, dtype=torch.float64)
    value = torch.full((50,), -math.inf, dtype=torch.float64)
    for _ in range(10):
        p = robust.label_distribution(scores, label, t, 0.1)
        half = loss.inner(scores, label, p, t)
        t = loss.updated(scores, label, t)
        now = loss.inner(scores, label, p, t)
        assert bool((half >= value - 1e-12).all() and (now >= half - 1e-12).all())
        assert bool(
            (t > 1 - 1 / alpha - 1e-12).all() and (t <= 1).all()
        )  # the open end is reached by rounding
        value = now


def test_peaked_examples_get_a_small_lambda():
    loss = robust.Aldr(centre=1.0, alpha=2.0, margin=0.0)
    scores = torch.tensor([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]], dtype=torch.float64)
    t = loss.updated(scores, torch.tensor([0, 0]), torch.ones(2, dtype=torch.float64))
    assert t[0].item() == pytest.approx(1.0) and t[1].item() == pytest.approx(0.5, abs=1e-2)
    with pytest.raises(ValueError, match="alpha"):
        robust.Aldr(alpha=1.0)


def test_normalised_scores_have_mean_size_one():
    scores, _ = drawn()
    assert torch.allclose(robust.normalised(scores).mean(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(
        robust.normalised(scores, positive_first=False).abs().mean(dim=1), torch.ones(50, dtype=torch.float64)
    )
