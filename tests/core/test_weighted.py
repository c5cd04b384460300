"""WPO: a weight for each response, read and not made by the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from equipoise.core.objectives import Dpo, Simpo, Wpo
from equipoise.core.objectives.weighted import wpo_weight


def weighted(scores, *weights):
    return replace(scores, response_weight=torch.tensor([weights], dtype=torch.float64))


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
    assert scores.swap().response_weights().tolist() == [[0.25, 0.5]]
    assert scores.take(torch.tensor([0, 0])).response_weights().tolist() == [[0.5, 0.25]] * 2


def test_a_weight_is_a_number(margins):
    with pytest.raises(ValueError, match="weight requires a gradient"):
        replace(margins(3.0), response_weight=torch.ones(1, 2, dtype=torch.float64, requires_grad=True))


def test_a_response_the_policy_writes_itself_weighs_one_and_one_it_would_not_little():
    # laws of two tokens: even over four words, then (0.5, 0.3, 0.2)
    laws = [torch.full((4,), 0.25), torch.tensor([0.5, 0.3, 0.2])]
    collision = torch.tensor([law.square().sum().log() for law in laws]).double()[None, None].expand(1, 2, 2)
    logp = torch.tensor([[[0.25, 0.5], [0.25, 0.2]]], dtype=torch.float64).log().requires_grad_()
    mask = torch.tensor([[[True, True], [True, False]]])
    weight = wpo_weight(logp, collision, mask)
    assert not weight.requires_grad
    # the even law gives every word its average; 0.5 of 0.38 on average; the second response is one token long
    assert weight.tolist()[0] == pytest.approx([(0.5 / 0.38) ** 0.5, 1.0], rel=1e-6)


def test_without_weights_it_says_so(margins):
    with pytest.raises(ValueError, match="reads a weight for every response"):
        Wpo()(margins(3.0))
