"""Losses of each response's implicit reward by itself: values, where their pulls turn, what bounds them."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core.objectives import ApoDown, ApoZero, BcoPair, Dpo, NcaPair


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def rewards(pairs, first: float, second: float):
    return pairs([first], [second], reference=(0.0, 0.0))


BY_HAND = {
    "nca": (NcaPair(beta=1.0), lambda a, b: -math.log(sigma(a)) - 0.5 * math.log(sigma(-a) * sigma(-b))),
    "bco": (BcoPair(beta=1.0), lambda a, b: -math.log(sigma(a) * sigma(-b))),
    "zero": (ApoZero(beta=1.0), lambda a, b: 1 - sigma(a) + sigma(b)),
    "down": (ApoDown(beta=1.0), lambda a, b: sigma(a) + 1 - sigma(a - b)),
}


@pytest.mark.parametrize("objective, formula", BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("first, second", [(0.0, 0.0), (1.5, -0.5), (-2.0, 3.0)])
def test_value_by_hand(pairs, objective, formula, first, second):
    assert objective(rewards(pairs, first, second)).value.item() == pytest.approx(formula(first, second))


def test_nca_turns_back_where_the_chosen_reward_passes_log_2(pairs):
    scores = pairs([math.log(2) - 0.1, math.log(2), math.log(2) + 0.1], [0.0] * 3, reference=(0.0, 0.0))
    NcaPair(beta=1.0)(scores).value.sum().backward()
    low, at, high = scores.logp.grad[:, 0].tolist()
    assert low < 0 < high
    assert at == pytest.approx(0.0, abs=1e-15)
    # the least it can cost: sigma(h0) = 2/3, the rejected response gone
    least = -math.log(2 / 3) - 0.5 * math.log(1 / 3)
    assert NcaPair(beta=1.0)(rewards(pairs, math.log(2), -200.0)).value.item() == pytest.approx(least)


def test_bco_bounds_dpo_from_above(pairs):
    # log(1 + e^-h0)(1 + e^h1) >= log(1 + e^(h1 - h0))
    h = torch.linspace(-6, 6, 25, dtype=torch.float64)
    first, second = (x.flatten().tolist() for x in torch.meshgrid(h, h, indexing="ij"))
    scores = pairs(first, second, reference=(0.0, 0.0))
    assert bool((BcoPair(beta=1.0)(scores).value > Dpo(beta=1.0)(scores).value).all())


@pytest.mark.parametrize("objective, most", [(ApoZero(beta=0.5), 0.125), (ApoDown(beta=0.5), 0.25)])
def test_apo_is_bounded_and_so_is_its_pull(pairs, objective, most):
    h = torch.linspace(-40, 40, 41, dtype=torch.float64)
    first, second = (x.flatten().tolist() for x in torch.meshgrid(h, h, indexing="ij"))
    scores = pairs(first, second, reference=(0.0, 0.0))
    value = objective(scores).value
    value.sum().backward()
    assert bool((value >= 0).all()) and bool((value <= 2).all())
    assert scores.logp.grad.abs().max().item() <= most * (1 + 1e-12)


def test_apo_zero_fades_on_both_sides(pairs):
    scores = pairs([-40.0, 40.0], [40.0, -40.0], reference=(0.0, 0.0))
    ApoZero(beta=0.5)(scores).value.sum().backward()
    assert scores.logp.grad.abs().max().item() < 1e-8


def test_apo_down_leaves_the_chosen_response_at_the_reference_and_lowers_it_after(pairs):
    at, after = rewards(pairs, 0.0, 0.0), rewards(pairs, 0.0, -3.0)
    for scores in (at, after):
        ApoDown(beta=1.0)(scores).value.sum().backward()
    assert at.logp.grad.tolist() == [[0.0, 0.25]]
    assert after.logp.grad[0, 0] > 0
