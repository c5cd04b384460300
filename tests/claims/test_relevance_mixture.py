"""R3's claim: its rule on curves made to break it, and its world by hand."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.claims.rewards import relevance_mixture as r3
from equipoise.claims.rewards.relevance_mixture import (
    KLS,
    LENGTH,
    MIXTURE,
    OPEN,
    RELEVANT,
    REWARDS,
    UNPENALISED,
    Question,
    judge,
    quality,
    tilted,
)

SPREAD = np.linspace(-0.01, 0.01, 6)[:, None, None]


def verdict(end=0.5, spread=1.0, **ends):
    """Curves of six worlds that move evenly from 0 to their ends at the last KL."""
    reached = {MIXTURE: end, RELEVANT: 0.1, LENGTH: -0.2, OPEN: 0.3, UNPENALISED: 0.3} | ends
    rise = np.arange(1 + len(KLS)) / len(KLS)
    curves = {
        name: reached[name] * np.broadcast_to(rise, (6, 3, len(rise))) + (name == MIXTURE) * spread * SPREAD
        for name in REWARDS
    }
    return judge(curves).verdict


def test_the_rule():
    assert verdict() == "holds"
    assert verdict(**{RELEVANT: 0.5}) == verdict(**{LENGTH: 0.6}) == verdict(spread=100.0) == "fails"
    assert verdict(**{OPEN: 0.5}) == verdict(**{UNPENALISED: 0.6}) == "mixed"
    assert (
        verdict(end=-0.1, **dict.fromkeys((RELEVANT, LENGTH, OPEN, UNPENALISED), -0.9)) == "mixed"
    )  # it falls


def test_quality_by_hand():
    open_ended = Question(("t1n0",), 1)
    facts = tuple(f"t1f{k}" for k in range(20))
    assert quality(open_ended, facts) == 1.0
    assert quality(open_ended, (*facts, "w0", "w1")) == 1.0  # fillers waste nothing
    assert quality(open_ended, ("t1f0", "t1f1", "t1f0", "t1f1")) == pytest.approx(2 / 20 - 2 / 4)
    assert quality(open_ended, ("t2f0", "t2f1", "w0")) == pytest.approx(-2 / 3)
    assert quality(open_ended, open_ended.text) == 0.0  # the question again states nothing
    closed = Question(("t1n0",), 1, ("t1f0", "t1f1", "t1f2"))
    assert quality(closed, ("t1f0", "t1f1", "t1f2", "w0")) == 1.0
    assert quality(closed, facts) == pytest.approx(2 * 3 / 23)  # more than was asked
    assert quality(closed, ("t1f0", "t1f9")) == pytest.approx(2 / 5)
    assert quality(closed, closed.text) == 0.0


def test_a_policy_has_the_kl_that_is_asked_for_and_prefers_what_pays():
    reward = np.random.default_rng(0).normal(size=(7, 16))
    for kl in KLS:
        probs = tilted(reward, kl)
        assert probs.sum(axis=1) == pytest.approx(np.ones(7))
        assert float((probs * np.log(16 * probs)).sum(axis=1).mean()) == pytest.approx(kl, abs=1e-9)
    odds = np.log(probs) - reward * (np.log(probs[0, 0] / probs[0, 1]) / (reward[0, 0] - reward[0, 1]))
    assert odds.std(axis=1).max() < 1e-6  # one temperature for all questions


def test_relevance_prefers_the_question_itself_and_the_parts_mend_it():
    rng = np.random.default_rng(3)
    words = r3.Words(rng)
    found = r3.drawn(rng)
    rewards = r3.rewards(found, words)
    copies = [ys.index(q.text) for q, ys in zip(found.questions, found.responses, strict=True)]
    at = np.arange(len(copies))
    relevance = rewards[RELEVANT]
    assert (relevance[at, copies] >= relevance.max(axis=1) - 1e-12).all()
    assert (rewards[MIXTURE][at, copies] < rewards[MIXTURE].max(axis=1)).all()
    closed = np.array([bool(q.answer) for q in found.questions])
    assert closed.sum() == 20 == len(found.references)
    assert np.allclose(rewards[MIXTURE][~closed], rewards[OPEN][~closed])
    assert not np.allclose(rewards[MIXTURE][closed], rewards[OPEN][closed])
    assert rewards[LENGTH].max() * r3.LONG >= 50
