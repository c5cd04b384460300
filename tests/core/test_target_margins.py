"""DPO with a target margin, one for all pairs or one for each."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from equipoise.core.objectives import Dpo, Odpo, OffsetDpo


def test_an_offset_moves_the_margin(margins):
    value = OffsetDpo(beta=0.5, offset=2.0)(margins(6.0)).value.item()
    assert value == pytest.approx(math.log1p(math.exp(-1)))  # m = 3, less 2


def test_the_weight_is_one_half_at_the_offset(margins):
    scores = margins(4.0)
    OffsetDpo(beta=0.5, offset=2.0)(scores).value.sum().backward()
    assert scores.logp.grad.tolist() == [[-0.25, 0.25]]  # beta sigma(0)


@pytest.mark.parametrize("apart", [0.25, 1.0, 8.0])
def test_the_offset_of_a_pair_is_the_logarithm_of_how_far_its_scores_stand_apart(margins, apart):
    scores = replace(margins(3.0), reward=torch.tensor([[2.0 + apart, 2.0]], dtype=torch.float64))
    value = Odpo(beta=0.5, alpha=0.7)(scores).value.item()
    assert value == pytest.approx(
        OffsetDpo(beta=0.5, offset=0.0)(margins(3.0 - 1.4 * math.log(apart))).value.item()
    )


def test_the_higher_score_wins_wherever_it_stands(margins):
    scores = replace(margins(3.0), reward=torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert Odpo(beta=0.5)(scores).value.item() == pytest.approx(Dpo(beta=0.5)(margins(-3.0)).value.item())


def test_equal_scores_count_for_nothing(margins):
    scores = replace(margins(3.0), reward=torch.ones(1, 2, dtype=torch.float64))
    losses = Odpo()(scores)
    losses.value.sum().backward()
    assert losses.value.item() == 0.0
    assert scores.logp.grad.tolist() == [[0.0, 0.0]]
