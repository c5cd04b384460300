"""Constrained rewards by hand: multipliers against a second way, kept between rounds, thresholds that are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.core.multipliers import Multipliers
from equipoise.games.tabular import TabularPolicy
from equipoise.games.utilities import constrained, expected
from equipoise.methods.index import get
from equipoise.play.pairings.constrained import Constrained
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.worlds.table.world import TableWorld
from scores_world import NAMED, Scores, two_rows

forms = pytest.mark.parametrize("form", ["at_least", "equal"])


@forms
def test_steps_are_those_of_torchs_sgd_on_the_papers_loss(form):
    mu = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.SGD([mu], lr=0.3, momentum=0.1)
    own = Multipliers.new(3, form)
    for seed in range(20):
        shortfall = np.random.default_rng(seed).normal(size=3)
        w = torch.sigmoid(mu) if form == "at_least" else torch.tanh(mu)
        descent.zero_grad()
        (w * torch.from_numpy(-shortfall)).sum().backward()
        descent.step()
        own = own.moved(shortfall, rate=0.3)
        np.testing.assert_allclose(own.mu, mu.detach().numpy(), atol=1e-12)


@forms
@settings(deadline=None)
@given(
    mu=st.lists(st.floats(-8, 8), min_size=1, max_size=4),
    shortfall=st.floats(-5, 5).filter(lambda v: abs(v) > 1e-3),
)
def test_weights_rise_while_violated_fall_otherwise_and_stay_bounded(form, mu, shortfall):
    before = Multipliers(mu=np.array(mu), velocity=np.zeros(len(mu)), form=form)
    after = before.moved(np.full(len(mu), shortfall), rate=0.1)
    assert ((after.mu - before.mu) * shortfall > 0).all()
    assert (np.abs(after.weights) <= 1).all() and (form == "equal" or (after.weights >= 0).all())
    assert np.abs(after.relative).max() <= 100 / len(mu) + 1e-9
    met = before.moved(np.zeros(len(mu)), rate=0.1)
    assert (met.mu == before.mu).all()  # a constraint that is met exactly moves nothing


def test_the_weights_that_begin():
    assert Multipliers.new(1).relative.tolist() == [1.0]  # of one score: as much as the KL term
    assert Multipliers.new(3, "equal").relative.tolist() == [0.0] * 3  # the KL term alone
    with pytest.raises(ValueError, match="at_least, equal"):
        Constrained(constraint="above")  # type: ignore[arg-type]


def formed(world: Any, round: int, pairing: Constrained) -> Rows:
    return pairing.form(world, State(round=round, policies={}), two_rows())


def test_rewards_by_hand_and_multipliers_kept_from_round_to_round():
    world = Scores(NAMED)
    pairing = Constrained(thresholds={"b": 30.0}, multiplier_rate=0.4, momentum=0.5)
    first = formed(world, 1, pairing)  # b: mean 20, deviation 10, one deviation short
    mu = 0.4 * 0.25 * 1.0
    odds = np.exp(mu)  # w/(1 - w)
    np.testing.assert_allclose(first.rewards, odds * np.array([[-2.0, -2.0], [0.0, 0.0]]))
    assert sorted(first.attributes) == ["a", "b"]
    world.named = {"a": NAMED["a"], "b": NAMED["b"] + 20}  # one deviation above
    second = formed(world, 2, pairing)
    w = odds / (1 + odds)
    later = mu + 0.4 * (0.5 * 0.25 - w * (1 - w))
    np.testing.assert_allclose(second.rewards, np.exp(later) * np.array([[0.0, 0.0], [2.0, 2.0]]))
    again = formed(replace(world), 2, pairing)
    assert again.rewards.tolist() == second.rewards.tolist()


def test_thresholds_that_cannot_be_read_are_refused():
    for bad in ({"a": "high"}, {"a": True}, {"a": float("nan")}, [1.0]):
        with pytest.raises(ValueError, match="threshold"):
            Constrained(thresholds=bad)  # type: ignore[arg-type]
    for bad in ({"multiplier_rate": 0.0}, {"momentum": 1.0}):
        with pytest.raises(ValueError, match="multiplier_rate"):
            Constrained(**bad)
    with pytest.raises(ValueError, match="no score has a threshold"):
        Constrained().check_scores(("a",))
    with pytest.raises(ValueError, match="names c; its scores are a, b"):
        formed(Scores(NAMED), 1, Constrained(thresholds={"c": 1.0}))
    with pytest.raises(ValueError, match="named scores of single responses"):
        get("constrained").check_world(TableWorld)


@forms
def test_the_closed_form_meets_its_constraints_with_complementary_slackness(form):
    draw = np.random.default_rng(3)
    utilities = torch.from_numpy(draw.normal(size=(2, 4, 5)))
    reference = TabularPolicy(torch.from_numpy(draw.normal(size=(4, 5))))
    base = expected(utilities, reference).numpy()
    found = constrained(utilities, base + np.array([0.4, -0.3]), reference, form=form)
    excess = found.utilities.numpy() - (base + np.array([0.4, -0.3]))
    assert abs(excess[0]) < 1e-5
    if form == "at_least":
        assert excess[1] > 0 and float(found.weights[1]) == 0
    else:
        assert abs(excess[1]) < 1e-5 and float(found.weights[1]) < 0
    with pytest.raises(ValueError, match="no policy"):
        constrained(utilities, base + np.array([50.0, 0.0]), reference, form=form)
