"""DPO with a likelihood loss beside it, or with two betas: RPO, IRPO, Flex-DPO."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core.objectives import Dpo, FlexDpo, Irpo, Rpo


def test_rpo_at_the_reference(pairs):
    value = Rpo(beta=0.5, eta=0.2)(pairs([-7.0], [-3.0], reference=(-7.0, -3.0))).value.item()
    assert value == pytest.approx(math.log(2) + 0.2 * 0.5 * 7)


@pytest.mark.parametrize("gap", [-20.0, 0.0, 3.0, 200.0])
def test_rpo_never_stops_to_push_the_chosen_response(pairs, gap):
    scores = pairs([gap - 5.0], [-5.0], reference=(-5.0, -5.0))
    Rpo(beta=0.5, eta=0.2)(scores).value.sum().backward()
    miss = 1 / (1 + math.exp(0.5 * gap))  # sigma(-m)
    assert scores.logp.grad.tolist()[0] == pytest.approx([-0.5 * (miss + 0.2), 0.5 * miss], rel=1e-10)


def test_rpo_counts_the_sum_and_irpo_the_mean(pairs):
    scores = pairs([-8.0], [-6.0], reference=(-8.0, -6.0), lengths=(4.0, 3.0))
    base = Dpo(beta=0.5)(scores).value
    assert (Rpo(beta=0.5, eta=0.2)(scores).value - base).item() == pytest.approx(0.1 * 8)
    assert (Irpo(beta=0.5, alpha=0.2)(scores).value - base).item() == pytest.approx(0.2 * 2)


def test_irpo_needs_lengths(pairs):
    with pytest.raises(ValueError, match="carries no lengths"):
        Irpo()(pairs([-8.0], [-6.0], reference=(-8.0, -6.0)))


def test_flex_by_hand(pairs):
    # m = 1/2 * 4 - 1/4 * 2 = 1.5
    scores = pairs([1.0], [0.0], reference=(-3.0, -2.0))
    losses = FlexDpo(beta_p=0.5, beta_n=0.25, sft=0.0)(scores)
    losses.value.sum().backward()
    assert losses.value.item() == pytest.approx(math.log1p(math.exp(-1.5)))
    # in log-probs the gradients stand as beta_p : beta_n
    assert -scores.logp.grad[0, 0].item() == pytest.approx(2 * scores.logp.grad[0, 1].item())


def test_flex_without_a_loser_weight_looks_at_the_winner_alone(pairs):
    scores = pairs([1.0, 1.0], [0.0, -40.0], reference=(-3.0, -2.0))
    value = FlexDpo(beta_p=0.5, beta_n=0.0)(scores).value
    value.sum().backward()
    assert value.tolist() == pytest.approx([math.log1p(math.exp(-2.0))] * 2)
    assert scores.logp.grad[:, 1].tolist() == [0.0, 0.0]


def test_a_common_shift_moves_flex_by_the_difference_of_its_betas(pairs):
    here = FlexDpo(beta_p=0.5, beta_n=0.2)(pairs([1.0], [0.0], reference=(0.0, 0.0)))
    there = FlexDpo(beta_p=0.5, beta_n=0.2)(pairs([4.0], [3.0], reference=(0.0, 0.0)))
    moved = there.metrics["margin"] - here.metrics["margin"]
    assert moved.item() == pytest.approx((0.5 - 0.2) * 3)


def test_flex_adds_the_likelihood_loss(pairs):
    scores = pairs([-8.0], [-6.0], reference=(-8.0, -6.0))
    assert FlexDpo(sft=0.3)(scores).value.item() == pytest.approx(math.log(2) + 0.3 * 8)


# 3D-properties: what DPO's gradient is in probabilities, and in log-probs


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_in_probabilities_the_rejected_gradient_dominates_as_it_vanishes(beta):
    def pull(rejected: float) -> tuple[float, float]:
        p = torch.tensor([[0.3, rejected]], dtype=torch.float64, requires_grad=True)
        margin = beta * (p[:, 0].log() - p[:, 1].log())
        (-torch.nn.functional.logsigmoid(margin)).sum().backward()
        return abs(p.grad[0, 0].item()), abs(p.grad[0, 1].item())

    for rejected in (0.2, 1e-3, 1e-9):
        chosen_pull, rejected_pull = pull(rejected)
        assert rejected_pull / chosen_pull == pytest.approx(0.3 / rejected, rel=1e-9)
    # like pi^beta and pi^(beta - 1): the first vanishes, the second explodes for beta < 1
    (c1, r1), (c2, r2) = pull(1e-12), pull(1e-14)
    assert math.log(c2 / c1) / math.log(1e-2) == pytest.approx(beta, rel=0.1)
    assert math.log(r2 / r1) / math.log(1e-2) == pytest.approx(beta - 1, rel=0.1)


def test_in_log_probs_they_are_equal_and_opposite(margins):
    for gap in (0.0, 5.0, 50.0):
        scores = margins(gap)
        Dpo(beta=0.3)(scores).value.sum().backward()
        assert scores.logp.grad[0, 0].item() == -scores.logp.grad[0, 1].item()
