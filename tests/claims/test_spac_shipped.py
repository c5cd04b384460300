"""The rule of SPAC's shipped defaults on figures made to break it, and its learners against plain ways to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.coverage import offline_families as families
from equipoise.claims.coverage.spac_shipped import Found, counted, judge, rounds_worse
from equipoise.games.spac_t import critic_value
from equipoise.methods.index import get

NOISE = np.linspace(-0.01, 0.01, 40)


def found(rounds=(0.5, 0.4, 0.3), left=0.0, other=0.2) -> Found:
    lost = {f"SPAC, round {t}": value + NOISE for t, value in enumerate(rounds, 1)}
    return Found("made up", 400, lost | {"LCB": other - NOISE}, left)


def test_a_round_that_loses_more_than_the_one_before_refutes():
    assert judge([found()]).verdict == "holds"
    assert judge([found(), found(left=0.06)]).verdict == "fails"
    bad = found(rounds=(0.5, 0.3, 0.31))
    assert judge([bad]).verdict == "fails"
    assert rounds_worse(bad) == ["made up, n = 400, round 3 (+0.010)"]
    within = Found("made up", 400, {"SPAC, round 1": 0.3 + NOISE, "SPAC, round 2": 0.301 - NOISE}, 0.0)
    assert rounds_worse(within) == []


def test_others_are_counted_by_the_interval_of_the_difference():
    assert counted([found(other=0.2), found(other=0.9), found(other=0.3)], "LCB") == (1, 1)


@pytest.fixture(scope="module")
def drawn():
    return families.draw(families.hasty(), 100, 3)


def test_chi_po_is_the_policy_whose_implicit_reward_is_the_fitted_one(drawn):
    """beta (z + log z), z = pi/pi_ref, differs from the reward by a constant."""
    f = families.fitted(drawn)
    policy = families.chi_po(drawn.reference, f, 0.5)
    z = policy / drawn.reference
    excess = 0.5 * (z + z.log()) - f
    assert torch.allclose(policy.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(excess, excess[:, :1].expand_as(excess), atol=1e-8)


def test_the_lower_bound_is_wide_where_an_arm_was_seldom_seen(drawn):
    f = families.fitted(drawn)
    width = (families.lower_bound(drawn, f, 1.0) - families.lower_bound(drawn, f, 2.0)).numpy()
    seen = drawn.data.mu.numpy()
    assert (width > 0).all() and width[:, 4:].mean() > 2 * width[:, :4].mean()
    assert (seen[:, :4].min(axis=1) > seen[:, 4:].max(axis=1)).all()


def test_the_fitted_reward_is_the_likeliest_in_the_box(drawn):
    f = families.fitted(drawn)
    mu = families.TabularPolicy.from_probs(drawn.data.mu)
    for seed in range(5):
        other = f + 0.05 * torch.as_tensor(np.random.default_rng(seed).normal(size=f.shape))
        other = other.clamp(-1.4, 1.4)
        assert (
            critic_value(drawn.data, mu, f, lam=1.0) <= critic_value(drawn.data, mu, other, lam=1.0) + 1e-9
        ).all()


def test_the_same_seed_draws_the_same_pairs_however_many_are_drawn():
    one, more = (families.draw(families.chain(), 100, seeds).data.counts for seeds in (1, 2))
    assert torch.equal(one[0], more[0]) and int(one.sum()) == 100
    far = (torch.arange(10)[:, None] - torch.arange(10)).abs() != 1
    assert not (more * far).any()


def test_spac_is_played_with_the_defaults_that_a_run_would_take(drawn, monkeypatch):
    taken = []

    def noted(objective, drawn, start, *, own, anchor):
        taken.append((objective, own, anchor))
        return start

    monkeypatch.setattr(families, "minimised", noted)
    families.spac(drawn, 3)
    (objective, own, anchor), *_ = taken
    assert len(taken) == get("spac").rounds and own and anchor == "previous"
    assert (objective.b, objective.w_pref, objective.w_pess) == pytest.approx((1.0, 1.0, 0.1))
    families.spac(drawn, 12)
    assert taken[-1][0].b == pytest.approx(2.0)
