"""SAIL's claim: its rule on figures made to break it, and its training against the closed forms that it has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import sail
from equipoise.claims.rewards.sail import (
    DDP,
    DPP,
    DPR,
    MORE,
    OFFLINE,
    ONLINE,
    World,
    designs,
    judge,
    recorded,
)

SPREAD = np.linspace(-0.01, 0.01, 6)[:, None] * np.array([1, 0])


def verdict(dpr=0.2, online=0.1, dpp=0.1, spread=1.0):
    """Six worlds, offline DPO at 0."""
    means = {OFFLINE: 0.0, MORE: 0.3, ONLINE: online, DPR: dpr, DPP: dpp, DDP: 0.0}
    figures = {
        name: np.full((6, 2), mean) + (name in (DPR, DPP)) * spread * SPREAD for name, mean in means.items()
    }
    return judge(figures, np.zeros((6, 2)), 100).verdict


def test_the_rule():
    assert verdict() == "holds"
    assert verdict(dpr=0.1) == verdict(dpr=-0.1, online=-0.2) == verdict(spread=100.0) == "fails"
    assert verdict(dpp=0.0) == verdict(dpp=-0.1) == "mixed"


def test_labels_follow_the_reward_and_responses_the_policy():
    world = World.drawn(1)
    rows = world.compared(
        world.reference, np.zeros(20_000, dtype=int), np.random.default_rng(0).random((20_000, 3))
    )
    share = torch.zeros(sail.ARMS).index_add(0, rows.responses.flatten(), torch.ones(40_000)) / 40_000
    assert torch.allclose(share.double(), world.reference[0].exp(), atol=0.02)
    reward = world.reward[0, 0]
    for a, b in ((0, 1), (2, 5)):
        won, lost = ((rows.responses == torch.tensor(pair)).all(dim=1).sum() for pair in ((a, b), (b, a)))
        assert float(won / (won + lost)) == pytest.approx(
            float(torch.sigmoid(reward[a] - reward[b])), abs=0.05
        )


def test_the_value_of_a_policy_is_its_reward_less_the_charge():
    world = World.drawn(2)
    best = (world.reference + world.reward.flatten(0, 1) / sail.BETA).log_softmax(dim=1)
    logz = (world.reference + world.reward.flatten(0, 1) / sail.BETA).logsumexp(dim=1)
    assert world.value(best)[:, 0] == pytest.approx((sail.BETA * logz).view(2, -1).mean(dim=1).tolist())
    charged, plain = world.value(world.reference).T
    assert charged == pytest.approx(plain, abs=1e-12)


def test_designs_without_the_term_and_without_fresh_responses_are_dpo(monkeypatch):
    """A weight of 0 is online DPO; offline DPO of many steps fits the recorded pairs better than of a few."""
    monkeypatch.setattr(sail, "WEIGHT", 0.0)
    world = World.drawn(2)
    assert torch.equal(sail.trained(world, DPR, 6), sail.trained(world, ONLINE, 6))
    monkeypatch.undo()
    assert not torch.equal(sail.trained(world, DPR, 6), sail.trained(world, ONLINE, 6))
    pairs, dpo = recorded(world, sail.RECORDED), sail.Dpo(beta=sail.BETA)
    losses = []
    for steps in (1, 10, 40):
        table = world.model.log_probs(sail.trained(world, OFFLINE, steps))
        losses.append(float(sail._mean(dpo, table, {"reference": world.reference}, pairs)))
    assert losses[0] > losses[1] > losses[2]
    assert designs()[OFFLINE] is designs()[MORE] is None
