"""AOT: margins of policy and reference meet rank by rank, over the whole batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Aot, AotUnpaired, Bco, Cdpo
from equipoise.core.objectives.stochastic_order import of_same_rank


def wide(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairs(policy: list[float], reference: list[float]) -> Scores:
    """One pair for each gap of the policy and of the reference."""
    logp = torch.stack([wide(*policy), wide(*[0.0] * len(policy))], dim=1).requires_grad_()
    anchor = torch.stack([wide(*reference), wide(*[0.0] * len(policy))], dim=1)
    return Scores(logp=logp, anchors={"reference": anchor})


def test_margins_meet_the_reference_of_their_own_rank_by_hand():
    # policy gaps 3, -1, 1 have ranks 3, 1, 2; reference gaps sorted are -2, 0, 5
    losses = Aot(beta=0.5)(pairs([3.0, -1.0, 1.0], [0.0, 5.0, -2.0]))
    margins = [0.5 * (3 - 5), 0.5 * (-1 + 2), 0.5 * (1 - 0)]
    assert losses.metrics["margin"].tolist() == margins
    assert losses.value.tolist() == pytest.approx([math.log1p(math.exp(-m)) for m in margins])


def test_sorting_both_sides_and_subtracting_gives_the_same_losses():
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    m = 0.3 * (policy.sort().values - reference.sort().values)
    want = 0.8 * softplus(-m) + 0.2 * softplus(m)
    got = Aot(beta=0.3, smoothing=0.2)(pairs(policy.tolist(), reference.tolist())).value
    assert torch.allclose(got[policy.argsort()], want, rtol=1e-12)


def test_the_order_of_the_references_is_of_no_account():
    here = Aot()(pairs([3.0, -1.0, 1.0], [0.0, 5.0, -2.0])).value
    assert torch.allclose(Aot()(pairs([3.0, -1.0, 1.0], [5.0, -2.0, 0.0])).value, here, rtol=1e-14)


def test_a_rank_that_rounding_puts_beyond_the_last_entry_gets_the_last_entry():
    # 0.1 + 0.2 + 0.3 in this order is one unit above 0.1 + 0.3 + 0.2, which is where the others' mass ends
    weight = wide(0.1, 0.2, 0.3)
    assert (weight / weight.sum()).cumsum(0)[-1] > (weight[[0, 2, 1]] / weight.sum()).cumsum(0)[-1]
    found = of_same_rank(wide(0.0, 1.0, 2.0), wide(0.0, 2.0, 1.0), weight)
    # the last value holds the mass from 1/2 to 1: one third of it meets 1, the rest meets 2
    assert found.tolist() == pytest.approx([0.0, 1.0, 5 / 3], rel=1e-14)


def test_a_batch_of_one_is_cdpo():
    scores = pairs([3.0], [1.0])
    for smoothing in (0.0, 0.1):
        cdpo = Cdpo(beta=0.5, smoothing=smoothing)(scores).value
        assert Aot(beta=0.5, smoothing=smoothing)(scores).value.tolist() == pytest.approx(cdpo.tolist())


def test_the_gradient_does_not_flow_through_the_ranks():
    scores = pairs([3.0, -1.0, 1.0], [0.0, 5.0, -2.0])
    losses = Aot(beta=0.5)(scores)
    (grad,) = torch.autograd.grad(losses.value.sum(), scores.logp)
    weight = -0.5 * torch.sigmoid(-losses.metrics["margin"])
    assert torch.allclose(grad, torch.stack([weight, -weight], dim=1))


def test_a_dominating_policy_has_less_loss_than_log_2_whatever_the_pairing():
    # every quantile of the policy's margins lies above the reference's, though single pairs do not
    losses = Aot()(pairs([1.0, 2.0, 4.0], [3.0, 0.0, 1.5]))
    assert bool((losses.value < math.log(2)).all())
    assert bool((Cdpo(smoothing=0.0)(pairs([1.0, 2.0, 4.0], [3.0, 0.0, 1.5])).value > math.log(2)).any())


def test_unequal_weights_average_the_quantile_function_over_each_share():
    # values 1 < 2 have shares 1/4 and 3/4; the others 0 (of 3/4) and 8 (of 1/4):
    # the lowest quarter is 0; the rest is 0 for half of the mass and 8 for a quarter, (2 * 0 + 8)/3
    met = of_same_rank(wide(2, 1), wide(0, 8), wide(3, 1))
    assert met.tolist() == pytest.approx([8 / 3, 0.0])
    assert float((wide(3, 1) * met).sum() / 4) == pytest.approx(2.0)  # the mean is that of the others


def test_a_weight_of_zero_is_a_deleted_pair():
    scores = pairs([3.0, -1.0, 9.0, 1.0], [0.0, 5.0, -7.0, -2.0])
    weight = wide(1, 2, 0, 3)
    whole = reduce.with_batch_statistic(Aot(), scores, weight)
    kept = torch.tensor([0, 1, 3])
    rest = reduce.with_batch_statistic(Aot(), scores.take(kept), weight[kept])
    assert torch.allclose(whole.batch_statistic[kept], rest.batch_statistic, rtol=1e-13)


def test_the_whole_batch_turned_round_has_every_margin_with_the_other_sign():
    scores = pairs([3.0, -1.0, 1.0], [0.0, 5.0, -2.0])
    whole = reduce.with_batch_statistic(Aot(), scores)
    assert torch.allclose(
        whole.swap().batch_statistic, reduce.with_batch_statistic(Aot(), scores.swap()).batch_statistic
    )


# single responses -------------------------------------------------------------------------------


def thumbs(up: list[float], down: list[float]) -> Scores:
    """Log-ratios of desirable responses, then of undesirable ones."""
    logp = wide(*up, *down)[:, None].requires_grad_()
    label = torch.cat([torch.ones(len(up)), torch.zeros(len(down))]).double()[:, None]
    return Scores(logp=logp, anchors={"reference": torch.zeros_like(label)}, reward=label)


def test_thumbs_up_meet_thumbs_down_of_their_own_rank_by_hand():
    # up 3, -1, 1 are of ranks 3, 1, 2; down sorted are -2, 0, 5
    losses = AotUnpaired(beta=0.5)(thumbs([3.0, -1.0, 1.0], [0.0, 5.0, -2.0]))
    assert losses.metrics["baseline"].tolist() == pytest.approx([5.0, -2.0, 0.0, 1.0, 3.0, -1.0])
    margins = [0.5 * (3 - 5), 0.5 * (-1 + 2), 0.5 * (1 - 0)]
    want = [math.log1p(math.exp(-m)) for m in margins]
    assert losses.value.tolist() == pytest.approx([*want, want[2], want[0], want[1]])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_its_mean_is_that_of_the_sorted_couples_and_its_gradient_half_of_theirs(smoothing):
    draw = torch.Generator().manual_seed(0)
    scores = thumbs(*torch.randn(2, 40, generator=draw).double().tolist())
    found = AotUnpaired(beta=0.3, smoothing=smoothing)(scores).value.mean()
    m = 0.3 * (scores.logp[:40, 0].sort().values - scores.logp[40:, 0].sort().values)
    want = ((1 - smoothing) * softplus(-m) + smoothing * softplus(m)).mean()
    ours, theirs = (torch.autograd.grad(x, scores.logp)[0] for x in (found, want))
    assert found.item() == pytest.approx(want.item(), rel=1e-12)
    assert torch.allclose(2 * ours, theirs, rtol=1e-12)


def test_kinds_of_different_numbers_meet_by_shares_of_their_mass():
    # two thumbs up and three down: the lower half of the ups meets -2 with 2/3 and 0 with 1/3 of its mass
    scores = thumbs([4.0, 1.0], [0.0, 5.0, -2.0])
    met = reduce.with_batch_statistic(AotUnpaired(), scores).batch_statistic
    assert met.tolist() == pytest.approx([(0 + 2 * 5) / 3, (2 * -2 + 0) / 3, (1 + 4) / 2, 4.0, 1.0])
    twice = reduce.with_batch_statistic(
        AotUnpaired(), scores, wide(6, 6, 1, 1, 1)
    ).batch_statistic  # kinds weigh by themselves
    assert twice.tolist() == pytest.approx(met.tolist())


def test_a_soft_label_meets_what_its_two_halves_meet():
    """A response that is desirable to 3/4 is one of weight 3/4 among the ups and one of 1/4 among the downs."""
    ratio, label = wide(1.0, -3.0, 0.5, 2.0)[:, None], wide(0.75, 1.0, 0.0, 0.25)[:, None]
    soft = Scores(logp=ratio, anchors={"reference": torch.zeros_like(ratio)}, reward=label)
    halves = thumbs(*[ratio[:, 0].tolist()] * 2)
    met = reduce.with_batch_statistic(
        AotUnpaired(), halves, torch.cat([label[:, 0], 1 - label[:, 0]])
    ).batch_statistic
    want = label[:, 0] * met[:4] + (1 - label[:, 0]) * met[4:]
    assert reduce.with_batch_statistic(AotUnpaired(), soft).batch_statistic.tolist() == pytest.approx(
        want.tolist()
    )
    assert float((met[:4] - met[4:]).abs()[0]) > 0.1, "else the mixture would not show"


def test_a_kind_alone_meets_the_reference():
    scores = thumbs([4.0, 1.0], [])
    same = Bco(beta=0.1, shift="none")(scores).value
    assert torch.allclose(AotUnpaired(beta=0.1)(scores).value, same, rtol=1e-14)
