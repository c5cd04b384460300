"""Noisy labels of reward models: strengths, flips, smoothing and margins against sums by hand and stated properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.reward_models.losses import preference_loss
from equipoise.reward_models.noise import Recipe, Strength, lowest, preference_strength

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=8)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def strength(*means):
    return Strength(numbers(*means), torch.zeros(len(means), dtype=torch.float64), 10)


def loss(logit, treated):
    return preference_loss(logit, treated.prob, margin=treated.margin, smoothing=treated.smoothing)


def test_strength_by_hand():
    found = preference_strength(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
    assert found.mean.tolist() == [2.0, -1.0]
    assert found.std.tolist() == [1.0, 1.0]  # over 2 models, not over 2 - 1
    assert found.models == 2


@given(LOGITS, st.integers(1, 12))
def test_models_that_agree_have_no_spread(logits, models):
    found = preference_strength(torch.tensor(logits).expand(models, -1))
    assert found.std.tolist() == [0.0] * len(logits)
    assert found.mean.tolist() == torch.tensor(logits).double().tolist()


@given(st.lists(st.tuples(*[st.floats(-20, 20)] * 3), min_size=1, max_size=6))
def test_strength_is_antisymmetric_in_the_pair(logits):
    one, other = preference_strength(torch.tensor(logits).T), preference_strength(-torch.tensor(logits).T)
    assert torch.equal(one.mean, -other.mean)
    assert torch.equal(one.std, other.std)


def test_a_logit_that_is_not_a_number_is_named():
    with pytest.raises(ValueError, match="model 1's logit on pair 2 is nan"):
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
def test_no_remedy_and_a_margin_of_zero_are_bradley_terry(logits):
    d = torch.tensor(logits, dtype=torch.float64)
    plain = [math.log1p(math.exp(-x)) for x in d.tolist()]
    assert loss(d, Recipe().treat(torch.ones_like(d), None)).tolist() == pytest.approx(plain, abs=1e-12)
    nothing = Strength(torch.zeros_like(d), torch.zeros_like(d), 10)
    adapted = Recipe(margin=True).treat(torch.ones_like(d), nothing)
    assert loss(d, adapted).tolist() == pytest.approx(plain, abs=1e-12)


@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.sampled_from([0.0, 0.2, 1.0])),
        min_size=1,
        max_size=6,
    )
)
def test_turning_a_pair_round_turns_everything_round(rows):
    logit, mean, prob = torch.tensor(rows, dtype=torch.float64).T
    recipe = Recipe(flip=0.3, smooth=0.1, smooth_on="negative", margin=True)
    one = recipe.treat(prob, Strength(mean, mean.abs(), 10))
    other = recipe.treat(1 - prob, Strength(-mean, mean.abs(), 10))
    assert torch.allclose(loss(logit, one), loss(-logit, other), atol=1e-12)
    assert torch.equal(one.flipped, other.flipped)


@given(LOGITS, st.floats(-3, 3), st.floats(0, 0.5))
def test_flipping_twice_is_the_identity(logits, mean, smooth):
    d = torch.tensor(logits, dtype=torch.float64)
    found = Strength(torch.full_like(d, mean), torch.zeros_like(d), 10)
    recipe = Recipe(flip=1.0, smooth=smooth, margin=True)
    once = recipe.treat(torch.ones_like(d), found)
    assert once.prob.tolist() == [0.0] * len(d)
    twice = recipe.treat(once.prob, found)
    plain = Recipe(smooth=smooth, margin=True).treat(torch.ones_like(d), found)
    assert torch.equal(loss(d, twice), loss(d, plain))


@pytest.mark.parametrize("smooth", [0.05, 0.2, 0.4])
def test_the_smoothed_loss_is_least_at_the_logit(smooth):
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    values = loss(grid, Recipe(smooth=smooth).treat(torch.ones_like(grid), None))
    assert float(grid[values.argmin()]) == pytest.approx(math.log((1 - smooth) / smooth), abs=1e-3)


def test_smoothing_of_one_half_has_no_gradient_at_equal_rewards_only():
    d = torch.tensor([0.0, 0.1, -2.0], dtype=torch.float64, requires_grad=True)
    loss(d, Recipe(smooth=0.5).treat(numbers(1, 1, 1), None)).sum().backward()
    assert d.grad.tolist()[0] == 0
    assert d.grad.tolist()[1] > 0 > d.grad.tolist()[2]


def test_the_papers_recipes():
    found, ones = strength(3, -2, 0.5, -0.25, 1), numbers(1, 1, 1, 1, 1)
    assert Recipe(flip=0.2).treat(ones, found).prob.tolist() == [1, 0, 1, 1, 1]
    assert Recipe(flip=0.2).treat(ones, found).margin.tolist() == [0] * 5
    assert Recipe(margin=True).treat(ones, found).margin.tolist() == found.mean.tolist()
    soft = Recipe(smooth=0.1, smooth_on="negative", margin=True).treat(ones, found)
    assert soft.smoothing.tolist() == pytest.approx([0, 0.1, 0, 0.1, 0])
    both = Recipe(flip=0.2, margin=True).treat(ones, found)
    # the second pair's label now says that the other one won, by -u = 2: z = 5 - 2
    assert float(loss(numbers(0, -5, 0, 0, 0), both)[1]) == pytest.approx(math.log1p(math.exp(-3)))


def test_labels_of_the_second_response_and_ties():
    found = strength(-3, 2, -1, 0.5)
    treated = Recipe(flip=0.5, smooth=0.1, smooth_on="negative").treat(numbers(0, 0, 0.5, 1), found)
    # strengths of the labels: 3, -2, none, 0.5; half of four labels are the second and the fourth
    assert treated.prob.tolist() == [0, 1, 0.5, 0]
    assert treated.smoothing.tolist() == pytest.approx(
        [0, 0, 0, 0.1]
    )  # the fourth is denied once it is flipped


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
    recipe = Recipe(**settings)
    assert recipe.reads_strength is needs
    if needs:
        with pytest.raises(ValueError, match="need an ensemble's strength"):
            recipe.treat(numbers(1, 1, 1), None)
    else:
        assert len(recipe.treat(numbers(1, 1, 1), None).prob) == 3


@pytest.mark.parametrize(
    "settings", [{"flip": 1.1}, {"smooth": 0.6}, {"smooth": -0.1}, {"smooth_on": "some"}]
)
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=r"must lie in|smoothing is on"):
        Recipe(**settings)


def test_strengths_of_other_pairs():
    with pytest.raises(ValueError, match="2 strengths for 3 pairs"):
        Recipe(flip=0.5).treat(numbers(1, 1, 1), strength(1, 2))
