"""Claims on optimism and pessimism: what they run on, and their rules on evidence made to break them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.coverage import coverage_games, vpo
from equipoise.claims.exploration import rare_arm, xpo
from equipoise.claims.exploration.rare_arm import BETA, Plan, Run, learn, optimum, references
from equipoise.core.objectives import Dpo, Vpo, Xpo

pytestmark = pytest.mark.usefixtures("no_shape_types")  # thousands of small steps
SMALL = Plan(seeds=3, rounds=3, steps=6)


def test_the_optimum_is_the_maximiser_of_the_regularised_value():
    reference = references((1e-2,), 1)
    rewards = torch.tensor(rare_arm.REWARDS, dtype=torch.float64)

    def value(log_pi):
        return float(log_pi.exp() @ rewards - BETA * (log_pi.exp() @ (log_pi - reference[0].log())))

    best = optimum(reference)[0]
    assert value(best) == pytest.approx(BETA * float(torch.log(reference[0] @ (rewards / BETA).exp())))
    run = learn(Dpo(beta=BETA), reference, Plan(seeds=1, rounds=1), "with the reference")
    assert run.lost[0, 0] == pytest.approx(value(best) - value(reference[0].log()))


def test_no_alpha_is_dpo_and_optimistic_vpo_is_xpo():
    reference = references((1e-2, 1e-3), SMALL.seeds)
    runs = [
        learn(objective, reference, SMALL, "with the reference").lost
        for objective in (
            Dpo(beta=BETA),
            Xpo(beta=BETA, alpha=0.0),
            Vpo(beta=BETA, alpha=0.0, optimistic=False),
        )
    ]
    # Adam divides by the size of a gradient, so that rounding may be seen
    assert np.allclose(runs[0], runs[1], atol=1e-3) and np.allclose(runs[0], runs[2], atol=1e-3)
    one = learn(Xpo(beta=BETA, alpha=0.02), reference, SMALL, "with the reference").lost
    two = learn(Vpo(beta=BETA, alpha=0.02 / BETA), reference, SMALL, "with the reference").lost
    assert np.allclose(one, two, atol=1e-3) and not np.allclose(one, runs[0], atol=1e-2)


def test_optimism_raises_responses_that_were_never_written():
    reference = references((1e-4,), 5)
    plan = Plan(seeds=5, rounds=1, steps=30)
    found = {
        name: learn(objective, reference, plan, "with the reference").good[:, -1].mean()
        for name, objective in (
            ("dpo", Dpo(beta=BETA)),
            ("up", Xpo(beta=BETA, alpha=0.01)),
            ("down", Vpo(beta=BETA, alpha=0.1, optimistic=False)),
        )
    }
    assert found["up"] > 100 * found["dpo"] and found["down"] <= 1.5 * found["dpo"]


def runs(dpo: float, up: float, down: float, rare: float = 0.3) -> dict[tuple[str, float], Run]:
    noise = np.random.default_rng(0).normal(0, 0.01, (20, 5))
    ends = {xpo.DPO: dpo, xpo.XPO: up, xpo.WRONG: down}
    return {
        (name, share): Run(lost=lost + noise, good=np.full((20, 5), good))
        for name, lost in ends.items()
        for share, good in ((1e-2, 0.8), (xpo.SHARE, rare))
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (runs(0.4, 0.1, 0.5), "holds"),
        (runs(0.4, 0.4, 0.5), "fails"),
        (runs(0.4, 0.5, 0.6), "fails"),
        (runs(0.4, 0.1, 0.05), "mixed"),  # the wrong sign does better still
        (runs(0.4, 0.1, 0.5, rare=0.9), "mixed"),  # DPO finds the rarer arm more often
    ],
)
def test_the_rule_of_xpo(found, expected):
    assert xpo.judge(found, 4).verdict == expected


def test_offline_without_alpha_is_the_box_minimiser_of_dpo(monkeypatch):
    """Wherever every arm was seen, Adam's end agrees with the exact fit of the same likelihood in the same box."""
    monkeypatch.setattr(vpo, "STEPS", 150)
    batch = coverage_games.draw(coverage_games.RARELY, (400,), 6)
    seen = batch.data.support.all(dim=1)
    found = vpo.fit(Vpo(beta=BETA, alpha=0.0), batch)
    exact = coverage_games.dpo(batch, BETA, batch.start().probs())
    assert int(seen.sum()) >= 3
    assert float((found - exact)[seen].abs().max()) < 0.02


def test_offline_pessimism_stays_with_what_was_chosen(monkeypatch):
    monkeypatch.setattr(vpo, "STEPS", 60)
    batch = coverage_games.draw(coverage_games.LUCKY, (400,), 20)
    lost = {
        key: batch.suboptimality(vpo.fit(o, batch)).mean() for key, o in vpo.objectives((vpo.ALPHA,)).items()
    }
    assert lost[vpo.DOWN] < 0.5 * lost[vpo.DPO] < lost[vpo.DPO] < lost[vpo.UP]


def evidence(up=0.1, down=0.5, own=0.1, guard=0.05, greed=1.5):
    rng = np.random.default_rng(0)

    def noisy(value: float, *shape: int):
        return value + rng.normal(0, 0.01, shape)

    online = {
        design: {vpo.DPO: noisy(0.4, 20, 5), vpo.UP: noisy(u, 20, 5), vpo.DOWN: noisy(down, 20, 5)}
        for design, u in ((vpo.MIXED, up), (vpo.OWN, own))
    }
    offline = {vpo.DPO: noisy(0.6, 20, 2), vpo.UP: noisy(greed, 20, 2), vpo.DOWN: noisy(guard, 20, 2)}
    return vpo.judge(online, offline, (100, 400), 4).verdict


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"up": 0.4}, "fails"),
        ({"guard": 0.7}, "fails"),
        ({"down": 0.4}, "mixed"),
        ({"greed": 0.5}, "mixed"),
        ({"own": 0.45}, "mixed"),
    ],
)
def test_the_rule_of_vpo(change, expected):
    assert evidence(**change) == expected
