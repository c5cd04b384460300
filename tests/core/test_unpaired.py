"""KTO, APO-zero-unpaired and BCO against the arithmetic of their papers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import logsigmoid, softplus

from equipoise.core import Scores, reduce
from equipoise.core.objectives import ApoZeroUnpaired, Bco, Dpo, Kto


def wide(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def answers(ratios: list[float], labels: list[float], unrelated: list[float] | None = None) -> Scores:
    """One labelled response for each log-ratio, with the log-ratio of an unrelated one beside it if there are any."""
    columns = [wide(ratios), *([wide(unrelated)] if unrelated else [])]
    logp = torch.stack(columns, dim=1).requires_grad_()
    reward = torch.zeros_like(logp, requires_grad=False)
    reward[:, 0] = wide(labels)
    return Scores(logp=logp, anchors={"reference": torch.zeros_like(reward)}, reward=reward)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# KTO --------------------------------------------------------------------------------------------


def test_kto_by_hand():
    # z0 = max(0, (1 + 4 - 2)/3) = 1; beta = 1/2
    losses = Kto(beta=0.5, desirable=1.5, undesirable=0.5)(answers([3, 3, -1], [1, 0, 1], [1, 4, -2]))
    expected = [1.5 * (1 - sigmoid(1.0)), 0.5 * (1 - sigmoid(-1.0)), 1.5 * (1 - sigmoid(-1.0))]
    assert losses.value.tolist() == pytest.approx(expected)
    assert losses.metrics["baseline"].tolist() == [1.0, 1.0, 1.0]
    assert losses.metrics["implicit_reward"].tolist() == [1.5, 1.5, -0.5]


def test_the_reference_point_is_cut_at_0_after_the_mean_not_before():
    # mean of (-3, 1) is -1: cut to 0; cutting first would give 1/2
    assert Kto()(answers([0, 0], [1, 0], [-3, 1])).metrics["baseline"].tolist() == [0.0, 0.0]
    # mean of (-1, 3) is 1; cutting first would give 3/2
    assert Kto()(answers([0, 0], [1, 0], [-1, 3])).metrics["baseline"].tolist() == [1.0, 1.0]


def test_the_reference_point_is_a_weighted_mean():
    scores = answers([0, 0, 0], [1, 0, 1], [2, 8, 100])
    weighted = reduce.with_batch_statistic(Kto(), scores, wide([3, 1, 0]))
    assert weighted.batch_statistic.tolist() == pytest.approx([(3 * 2 + 8) / 4] * 3)


@pytest.mark.parametrize("weight", [0.5, 1.0, 4 / 3])
def test_half_the_weight_at_the_reference_policy(weight):
    scores = answers([0, 0], [1, 0], [0, 0])
    for objective in (
        Kto(desirable=weight, undesirable=weight),
        ApoZeroUnpaired(desirable=weight, undesirable=weight),
    ):
        assert objective(replace(scores, logp=scores.logp)).value.tolist() == pytest.approx(
            [weight / 2] * 2, abs=1e-16
        )


def test_each_loss_lies_between_0_and_its_weight():
    ratios = [-300.0, -20.0, -1.0, 0.0, 1.0, 20.0, 300.0]
    for label, weight in ((1.0, 1.2), (0.0, 0.7)):
        scores = answers(ratios, [label] * 7, [0.5] * 7)
        value = Kto(beta=0.1, desirable=1.2, undesirable=0.7)(scores).value
        assert bool((value > 0).all()) and bool((value < weight).all())


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_gradient_fades_on_both_tails_where_a_logistic_loss_pulls_on_one(label):
    scores = answers([-400.0, 2.0, 400.0], [label] * 3, [2.0] * 3)
    objective = Kto(beta=0.1)
    (kto,) = torch.autograd.grad(objective(scores).value.sum(), scores.logp)
    # lam beta s(a)(1 - s(a)): a quarter of beta at the reference point, e^-39.8 of it at the ends
    assert kto[1, 0].abs().item() == pytest.approx(0.1 / 4)
    assert bool((kto[[0, 2], 0].abs() < 0.1 * math.exp(-39)).all())
    (logistic,) = torch.autograd.grad(Bco(beta=0.1, shift="none")(scores).value.sum(), scores.logp)
    wrong_end = 0 if label else 2
    assert logistic[wrong_end, 0].abs().item() == pytest.approx(0.1)


def test_the_gradient_is_that_of_the_formula_and_none_flows_to_the_unrelated_responses():
    scores = answers([3, 3, -1], [1, 0, 1], [1, 4, -2])
    (grad,) = torch.autograd.grad(Kto(beta=0.5)(scores).value.sum(), scores.logp)
    slope = [-0.5 * sigmoid(1) * sigmoid(-1), 0.5 * sigmoid(1) * sigmoid(-1), -0.5 * sigmoid(-1) * sigmoid(1)]
    assert grad[:, 0].tolist() == pytest.approx(slope)
    assert not grad[:, 1].any()


def test_the_reference_point_is_never_negative_and_never_has_a_gradient():
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        unrelated = (3 * torch.randn(4, generator=generator)).tolist()
        context = reduce.with_batch_statistic(
            Kto(), answers([0.0] * 4, [1.0, 0.0, 1.0, 0.0], unrelated)
        ).batch_statistic
        assert bool((context >= 0).all()) and not context.requires_grad


def test_apo_zero_unpaired_is_kto_with_its_reference_point_at_0():
    with_negative_mean = answers([3, -2, 0.5], [1, 0, 0.3], [-1, -4, -2])
    alone = answers([3, -2, 0.5], [1, 0, 0.3])
    got = ApoZeroUnpaired(beta=0.5)(alone).value
    assert got.tolist() == pytest.approx(Kto(beta=0.5)(with_negative_mean).value.tolist(), abs=1e-16)
    by_hand = [sigmoid(-1.5), sigmoid(-1.0), 0.3 * sigmoid(-0.25) + 0.7 * sigmoid(0.25)]
    assert got.tolist() == pytest.approx(by_hand)


# BCO --------------------------------------------------------------------------------------------


def test_bco_by_hand_with_each_shift():
    # beta = 1/2: rewards 2, 1, -3 of two thumbs up and one down
    scores = answers([4, 2, -6], [1, 1, 0])
    for shift, delta in (("balanced", (1.5 - 3) / 2), ("pooled", 0.0), ("running", 0.0), ("none", 0.0)):
        losses = Bco(beta=0.5, shift=shift)(scores)
        expected = [
            -math.log(sigmoid(2 - delta)),
            -math.log(sigmoid(1 - delta)),
            -math.log(sigmoid(3 + delta)),
        ]
        assert losses.value.tolist() == pytest.approx(expected)
        assert losses.metrics["baseline"].tolist() == pytest.approx([delta] * 3)


def test_balanced_and_pooled_shifts_differ_only_where_the_classes_do():
    even, uneven = answers([4, 2, -6, 1], [1, 1, 0, 0]), answers([4, 2, -6, 1], [1, 1, 1, 0])
    here, there = (
        reduce.with_batch_statistic(Bco(shift=s), even).batch_statistic for s in ("balanced", "pooled")
    )
    assert torch.allclose(here, there, rtol=1e-14)
    here, there = (
        reduce.with_batch_statistic(Bco(shift=s), uneven).batch_statistic for s in ("balanced", "pooled")
    )
    assert float((here - there).abs().min()) > 0.01


def test_one_kind_alone_is_shifted_by_its_own_mean():
    scores = answers([4, 2], [1, 1])
    balanced = Bco(beta=0.5, shift="balanced")
    assert reduce.with_batch_statistic(balanced, scores).batch_statistic.tolist() == pytest.approx([1.5, 1.5])


def test_a_soft_label_counts_for_both_kinds_in_the_shift():
    # E_up = (1*4 + 0.25*8)/1.25, E_down = 8; beta = 1
    scores = answers([4, 8], [1, 0.25])
    up = (4 + 0.25 * 8) / 1.25
    balanced = Bco(beta=1.0, shift="balanced")
    assert reduce.with_batch_statistic(balanced, scores).batch_statistic[0].item() == pytest.approx(
        (up + 8) / 2
    )


def test_a_running_shift_is_the_weighted_mean_of_all_rewards_so_far():
    objective, memory = Bco(beta=0.5), ()
    steps = [([4, 2], [1, 0], [1.0, 1.0]), ([-6], [0], [3.0]), ([8, 1, 0], [1, 1, 0], [0.5, 0.0, 1.5])]
    seen, weights = [], []
    for ratios, labels, weight in steps:
        seen, weights = [*seen, *(0.5 * r for r in ratios)], [*weights, *weight]
        memory, shift = reduce.step_statistic(objective, answers(ratios, labels), wide(weight), memory)
        mean = sum(w * r for w, r in zip(weights, seen, strict=True)) / sum(weights)
        assert shift.tolist() == pytest.approx([mean] * len(ratios)) and not shift.requires_grad
    assert memory[0] == pytest.approx(sum(weights))


def test_an_evaluation_recalls_the_running_shift_and_does_not_move_it():
    objective, first, held = Bco(beta=0.5), answers([4, 2], [1, 0]), answers([-6], [0])
    memory, _ = reduce.step_statistic(objective, first, wide([1, 1]), ())
    same, shift = reduce.step_statistic(objective, held, wide([1]), memory, training=False)
    assert same == memory and shift.tolist() == pytest.approx([1.5])
    # before the first step there is nothing to recall: the batch's own mean
    nothing, own = reduce.step_statistic(objective, held, wide([1]), (), training=False)
    assert nothing == () and own.tolist() == pytest.approx([-3.0])


@pytest.mark.parametrize("shift", ["pooled", "balanced"])
def test_a_statistic_of_one_batch_remembers_nothing(shift):
    objective, scores, weight = Bco(beta=0.5, shift=shift), answers([4, 2, -6], [1, 1, 0]), wide([1, 1, 1])
    memory, statistic = reduce.step_statistic(objective, scores, weight, ())
    assert memory == ()
    assert statistic.equal(reduce.with_batch_statistic(objective, scores, weight).batch_statistic)


def test_a_pair_bounds_dpo_from_above_for_every_shift():
    generator = torch.Generator().manual_seed(2)
    win, lose, delta = 3 * torch.randn(3, 500, generator=generator, dtype=torch.float64)
    dpo = -logsigmoid(win - lose)
    bound = -logsigmoid(win - delta) - logsigmoid(-(lose - delta))
    assert bool((bound >= dpo).all())
    # the same through the objectives, with the shift as the context
    objective, halves = Bco(beta=1.0), []
    for ratio, label in ((win, 1.0), (lose, 0.0)):
        halves.append(objective(replace(answers(ratio.tolist(), [label] * 500), batch_statistic=delta)).value)
    assert torch.allclose(sum(halves), bound, rtol=1e-12)
    pair = Scores(
        logp=torch.stack([win, lose], dim=1),
        anchors={"reference": torch.zeros(500, 2, dtype=torch.float64)},
    )
    assert bool((sum(halves) >= Dpo(beta=1.0)(pair).value).all())


def test_the_bound_is_tightest_with_the_shift_in_the_middle_of_the_pair():
    win, lose = 1.7, -0.4
    delta = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    bound = softplus(-(win - delta)) + softplus(lose - delta)
    middle = (win + lose) / 2
    assert delta[bound.argmin()].item() == pytest.approx(middle, abs=1e-3)
    # and there (1 + e^-a)(1 + e^b) = 1 + e^-(a - b) + e^-a + e^b
    a, b = win - middle, lose - middle
    assert (1 + math.exp(-a)) * (1 + math.exp(b)) == pytest.approx(
        1 + math.exp(-(a - b)) + math.exp(-a) + math.exp(b)
    )


@pytest.mark.parametrize("shift", ["running", "balanced", "pooled"])
def test_a_constant_on_all_rewards_changes_nothing(shift):
    here = Bco(beta=0.5, shift=shift)(answers([4, 2, -6], [1, 1, 0])).value
    there = Bco(beta=0.5, shift=shift)(answers([11, 9, 1], [1, 1, 0])).value
    assert torch.allclose(here, there, rtol=1e-12)
    assert not torch.allclose(
        Bco(shift="none")(answers([4, 2, -6], [1, 1, 0])).value,
        Bco(shift="none")(answers([11, 9, 1], [1, 1, 0])).value,
    )


def test_without_a_shift_a_pair_is_bco_pair():
    # TRL's bco_pair: -log sigma(r_w) - log sigma(-r_l)
    values = Bco(beta=0.5, shift="none")(answers([3, -1], [1, 0])).value
    assert values.sum().item() == pytest.approx(math.log1p(math.exp(-1.5)) + math.log1p(math.exp(-0.5)))


def test_no_gradient_flows_through_the_shift():
    scores = answers([4, 2, -6], [1, 1, 0])
    losses = Bco(beta=0.5)(scores)
    (grad,) = torch.autograd.grad(losses.value.sum(), scores.logp)
    above = losses.metrics["implicit_reward"] - losses.metrics["baseline"]
    by_hand = 0.5 * (torch.sigmoid(above) - wide([1, 1, 0]))
    assert torch.allclose(grad[:, 0], by_hand)
