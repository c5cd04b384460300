"""RTO's claim: its rule on figures made to break it, and its instruments against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.tokens import rto
from equipoise.claims.tokens.rto import EXACT, GAMES, MEAN, RATES, SENTENCE, TOKENS, judge
from equipoise.games import TokenPolicy


def figures(gain=0.1, exact=0.0, lands=0.9):
    """Curves of eight seeds whose mean differs by `gain`, exact ones by `exact`; shares of the decisive token."""
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 8, rto.ROUNDS + 1))
    runs = {}
    for game in GAMES:
        for critic, rates in RATES.items():
            for paid in (TOKENS, SENTENCE):
                level = 1 + (gain if critic == MEAN else exact) * (paid == SENTENCE)
                jitter = noise[int(paid == SENTENCE)] if critic == MEAN else 0 * noise[0]
                runs[game, critic, paid] = np.stack([level + 0.5 * k + jitter for k in range(len(rates))])
    shares = np.full((8, 5), (1 - lands) / 4)
    shares[:, 2] = lands
    return runs, dict.fromkeys(GAMES, shares), dict.fromkeys(GAMES, 0.2)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "holds"),
        ({"gain": -0.1}, "fails"),
        ({"gain": 0.0}, "fails"),
        ({"exact": 0.1}, "mixed"),
        ({"lands": 0.4}, "mixed"),
    ],
)
def test_the_rule(changes, verdict):
    assert judge(*figures(**changes)).verdict == verdict


def test_one_game_that_is_not_faster_breaks_the_heart():
    runs, places, missed = figures()
    runs[GAMES[2], MEAN, TOKENS] = runs[GAMES[2], MEAN, SENTENCE] + 0.1
    found = judge(runs, places, missed)
    assert found.verdict == "fails" and "2 of 3 games" in found.summary


def test_both_ways_of_paying_are_the_same_with_exact_values(monkeypatch):
    """V after a prefix, paid at the end, is V paid by token and what was paid before: every delta is the same."""
    monkeypatch.setattr(rto, "ROUNDS", 6)
    found = rto.setting("a sum", seeds=3, pairs=400)
    curves = [
        rto.learn(found, paid, EXACT, 2.0, torch.Generator().manual_seed(0)) for paid in (TOKENS, SENTENCE)
    ]
    assert np.allclose(*curves, rtol=0, atol=1e-12)
    assert (curves[0][:, -1] < 0.9 * curves[0][:, 0]).all()


def test_exact_values_are_expected_returns():
    found = rto.setting("two must differ", seeds=2, pairs=300)
    draw = torch.Generator().manual_seed(1)
    policy = TokenPolicy(rto.TREE, torch.randn(found.table.shape, generator=draw, dtype=torch.float64))
    first = rto.exact_value(policy, found.table)[:, :, 0]
    truth = (policy.tabular().probs() * found.reward.sum(dim=2)).sum(dim=1, keepdim=True)
    assert torch.allclose(first, truth.expand_as(first), rtol=0, atol=1e-12)


def test_many_pairs_leave_the_teacher_without_error():
    few, many = (float(rto.setting("one token", 2, pairs).missed.mean()) for pairs in (300, 100_000))
    assert many < 0.01 < few
