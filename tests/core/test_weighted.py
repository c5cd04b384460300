"""WPO: a weight for each response, read and not made by the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from equipoise.core.objectives import Dpo, Simpo, Wpo


def weighted(scores, *weights):
    return replace(scores, weight=torch.tensor([weights], dtype=torch.float64))


def test_the_loss_is_multiplied_by_both_weights(margins):
    scores = weighted(margins(3.0), 0.5, 0.25)
    plain = margins(3.0)
    Wpo(base=Dpo(beta=0.5))(scores).value.sum().backward()
    Dpo(beta=0.5)(plain).value.sum().backward()
    assert torch.allclose(scores.logp.grad, plain.logp.grad / 8)


def test_any_pair_loss_can_be_weighted(pairs):
    base = Simpo(beta=2.0, gamma=0.5)
    objective = Wpo(base=base)
    assert objective.anchors == ()
    scores = weighted(pairs([-2.0], [-3.0], lengths=(2.0, 4.0)), 0.5, 0.5)
    assert objective(scores).value.item() == pytest.approx(base(scores).value.item() / 4)


def test_weights_turn_round_with_their_responses(margins):
    scores = weighted(margins(3.0), 0.5, 0.25)
    assert scores.swap().weights().tolist() == [[0.25, 0.5]]
    assert scores.take(torch.tensor([0, 0])).weights().tolist() == [[0.5, 0.25]] * 2


def test_a_weight_is_a_number(margins):
    with pytest.raises(ValueError, match="weight requires a gradient"):
        replace(margins(3.0), weight=torch.ones(1, 2, dtype=torch.float64, requires_grad=True))


def test_without_weights_it_says_so(margins):
    with pytest.raises(ValueError, match="reads a weight for every response"):
        Wpo()(margins(3.0))
