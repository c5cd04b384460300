"""The records that cross layers refuse what does not fit, and turn round with their label."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from equipoise.core import Losses, Scores
from equipoise.core.links import bradley_terry


def batch(**changes) -> Scores:
    fields = {
        "logp": torch.tensor([[-1.0, -2.0, -4.0], [-3.0, -1.0, -2.0]]),
        "anchors": {"reference": torch.tensor([[-2.0, -2.0, -2.0], [-1.0, -5.0, -3.0]])},
        "prob": torch.tensor([1.0, 0.25]),
        "length": torch.tensor([[1.0, 2.0, 4.0], [3.0, 1.0, 2.0]]),
    }
    return Scores(**(fields | changes))


def test_shape_types_are_enforced_while_testing():
    with pytest.raises(TypeCheckError):
        bradley_terry(torch.tensor([1, 2]), torch.tensor([1, 2]))  # integers are not scores


def test_gaps_and_ratios_by_hand():
    scores = batch()
    assert scores.gap().tolist() == [1.0, -2.0]
    assert scores.gap("reference").tolist() == [0.0, 4.0]
    assert scores.log_ratio("reference").tolist() == [[1.0, 0.0, -2.0], [-2.0, 4.0, 1.0]]
    assert len(scores) == 2


def test_swap_turns_the_pair_the_label_and_nothing_else():
    scores, turned = batch(), batch().swap()
    assert turned.gap().tolist() == [-1.0, 2.0]
    assert turned.gap("reference").tolist() == [0.0, -4.0]
    assert turned.prob.tolist() == [0.0, 0.75]
    assert turned.logp[:, 2].equal(scores.logp[:, 2])  # the third response carries no label
    assert turned.length.tolist() == [[2.0, 1.0, 4.0], [1.0, 3.0, 2.0]]
    back = turned.swap()
    assert back.logp.equal(scores.logp)
    assert back.prob.equal(scores.prob)
    assert back.length.equal(scores.length)


def test_take_selects_rows_everywhere():
    by_index, by_mask = batch().take(torch.tensor([1])), batch().take(torch.tensor([False, True]))
    for one in (by_index, by_mask):
        assert one.logp.tolist() == [[-3.0, -1.0, -2.0]]
        assert one.of("reference").tolist() == [[-1.0, -5.0, -3.0]]
        assert one.prob.tolist() == [0.25]
        assert one.length.tolist() == [[3.0, 1.0, 2.0]]


def test_per_token_divides_each_score_by_its_own_length():
    mean = batch().per_token()
    assert mean.logp.tolist() == [[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]
    assert mean.of("reference")[0].tolist() == [-2.0, -1.0, -0.5]
    with pytest.raises(ValueError, match="carries no lengths"):
        batch(length=None).per_token()


def test_a_missing_anchor_is_named_with_those_present():
    with pytest.raises(KeyError, match=r"missing anchor 'previous' \(available: reference\)"):
        batch().gap("previous")


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"anchors": {"reference": torch.zeros(2, 2)}}, "anchor 'reference' has shape"),
        ({"anchors": {"reference": torch.zeros(2, 3, requires_grad=True)}}, "anchors are frozen"),
        ({"length": torch.ones(2, 2)}, "length has shape"),
        ({"prob": torch.ones(3)}, "prob has shape"),
        ({"prob": torch.tensor([0.5, 1.5])}, r"prob must lie in \[0, 1\]"),
        ({"prob": torch.tensor([0.5, float("nan")])}, r"prob must lie in \[0, 1\]"),
        ({"logp": torch.zeros(2)}, "logp must be"),
    ],
)
def test_scores_refuse(changes, reason, no_shape_types):
    with pytest.raises(ValueError, match=reason):
        batch(**changes)


def test_losses_detach_their_diagnostics_and_refuse_a_reduced_value(no_shape_types):
    x = torch.ones(3, requires_grad=True)
    losses = Losses(2 * x, margin=x)
    assert losses.value.requires_grad
    assert not losses.metrics["margin"].requires_grad
    with pytest.raises(ValueError, match="one loss per comparison"):
        Losses(x.sum())
