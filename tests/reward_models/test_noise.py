"""Noisy labels of reward models: strengths, flips, smoothing and margins against sums by hand and stated properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.reward_models.noise import (
    Labels,
    Remedies,
    Strength,
    lowest,
    noisy_pair_loss,
    preference_strength,
)

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=8)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def strength(*means):
    return Strength(numbers(*means), torch.zeros(len(means), dtype=torch.float64), 10)


def test_strength_by_hand():
    found = preference_strength(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
    assert found.mean.tolist() == [2.0, -1.0]
    assert found.std.tolist() == [1.0, 1.0]  # over 2 models, not over 2 - 1
    assert found.models == 2


@given(LOGITS, st.integers(1, 12))
def test_models_that_agree_have_no_spread(margins, models):
    found = preference_strength(torch.tensor(margins).expand(models, -1))
    assert found.std.tolist() == [0.0] * len(margins)
    assert found.mean.tolist() == torch.tensor(margins).double().tolist()


@given(st.lists(st.tuples(*[st.floats(-20, 20)] * 3), min_size=1, max_size=6))
def test_strength_is_antisymmetric_in_the_pair(margins):
    one, other = preference_strength(torch.tensor(margins).T), preference_strength(-torch.tensor(margins).T)
    assert torch.equal(one.mean, -other.mean)
    assert torch.equal(one.std, other.std)


def test_a_margin_that_is_not_a_number_is_named():
    with pytest.raises(ValueError, match="model 1's margin on pair 2 is nan"):
        preference_strength(torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, math.nan]]))


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, []), (0.2, [1]), (0.39, [1]), (0.4, [1, 3]), (0.6, [1, 3, 4]), (1, [0, 1, 2, 3, 4])],
)
def test_the_lowest_share(share, expected):
    assert lowest(numbers(2, -3, 1, -1, -1), share).nonzero().flatten().tolist() == expected


def test_shares_that_floats_miss():
    assert int(lowest(torch.arange(100.0), 0.29).sum()) == 29


@given(LOGITS)
def test_without_remedies_it_is_bradley_terry(differences):
    d = torch.tensor(differences, dtype=torch.float64)
    loss = noisy_pair_loss(d, Labels.plain(len(d)))
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-x)) for x in d.tolist()], abs=1e-12)


@given(LOGITS)
def test_a_margin_of_zero_is_bradley_terry(differences):
    d = torch.tensor(differences, dtype=torch.float64)
    adapted = Remedies(margin=True).labels(Strength(torch.zeros_like(d), torch.zeros_like(d), 10))
    assert torch.equal(noisy_pair_loss(d, adapted), noisy_pair_loss(d, Labels.plain(len(d))))


@given(LOGITS, st.floats(0, 0.5), st.floats(-3, 3))
def test_flipping_twice_is_the_identity_and_once_turns_the_pair_round(differences, smooth, mean):
    d = torch.tensor(differences, dtype=torch.float64)
    one = torch.ones_like(d)
    labels = Labels(one, mean * one, smooth * one)
    twice = labels.flipped().flipped()
    assert torch.equal(noisy_pair_loss(d, twice), noisy_pair_loss(d, labels))
    recorded_the_other_way = Labels(one, -mean * one, smooth * one)
    assert torch.allclose(
        noisy_pair_loss(d, labels.flipped()), noisy_pair_loss(-d, recorded_the_other_way), atol=1e-12
    )


@pytest.mark.parametrize("smooth", [0.05, 0.2, 0.4])
def test_the_smoothed_loss_is_least_at_the_logit(smooth):
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    labels = Remedies(smooth=smooth).labels(None, len(grid))
    least = float(grid[noisy_pair_loss(grid, labels).argmin()])
    assert least == pytest.approx(math.log((1 - smooth) / smooth), abs=1e-3)


def test_smoothing_of_one_half_has_no_gradient_at_equal_rewards_only():
    d = torch.tensor([0.0, 0.1, -2.0], requires_grad=True)
    noisy_pair_loss(d, Remedies(smooth=0.5).labels(None, 3)).sum().backward()
    assert d.grad.tolist()[0] == 0
    assert d.grad.tolist()[1] > 0 > d.grad.tolist()[2]


def test_the_papers_recipes():
    found = strength(3, -2, 0.5, -0.25, 1)
    assert Remedies(flip=0.2).labels(found).side.tolist() == [1, -1, 1, 1, 1]
    assert Remedies(flip=0.2).labels(found).margin.tolist() == [0] * 5
    assert Remedies(margin=True).labels(found).margin.tolist() == found.mean.tolist()
    soft = Remedies(smooth=0.1, smooth_on="negative", margin=True).labels(found)
    assert soft.smoothing.tolist() == pytest.approx([0, 0.1, 0, 0.1, 0])
    both = Remedies(flip=0.2, margin=True).labels(found)
    # the second pair's label now says that the other one won, by -u = 2
    assert float(noisy_pair_loss(numbers(0, -5, 0, 0, 0), both)[1]) == pytest.approx(math.log1p(math.exp(-3)))


def test_a_flipped_pair_is_no_longer_of_negative_strength():
    labels = Remedies(flip=0.2, smooth=0.1, smooth_on="negative").labels(strength(3, -2, 0.5, -0.25, 1))
    assert labels.smoothing.tolist() == pytest.approx([0, 0, 0, 0.1, 0])


def test_rows_of_labels():
    labels = Remedies(flip=0.5, margin=True).labels(strength(3, -2))
    chosen = labels[torch.tensor([1])]
    assert (chosen.side.tolist(), chosen.margin.tolist(), len(chosen)) == ([-1], [-2], 1)


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, False),
        ({"smooth": 0.1}, False),
        ({"smooth_on": "negative"}, False),
        ({"smooth": 0.1, "smooth_on": "negative"}, True),
        ({"flip": 0.1}, True),
        ({"margin": True}, True),
    ],
)
def test_what_needs_an_ensemble(settings, needs):
    remedies = Remedies(**settings)
    assert remedies.reads_strength is needs
    if needs:
        with pytest.raises(ValueError, match="need an ensemble's strength"):
            remedies.labels(None, 3)
    else:
        assert len(remedies.labels(None, 3)) == 3


@pytest.mark.parametrize(
    "settings", [{"flip": 1.1}, {"smooth": 0.6}, {"smooth": -0.1}, {"smooth_on": "some"}]
)
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=r"must lie in|smoothing is on"):
        Remedies(**settings)


def test_strengths_of_other_pairs():
    with pytest.raises(ValueError, match="2 strengths for 3 pairs"):
        Remedies(flip=0.5).labels(strength(1, 2), 3)
