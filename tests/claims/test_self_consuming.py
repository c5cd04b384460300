"""The rule of self_consuming_curation on evidence made to break it, and its loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from equipoise.claims.rewards.self_consuming import MOSTLY, ONLY, courses, judge


@pytest.fixture(scope="module")
def found():
    return courses(6, 30)


def test_the_claim_holds_and_every_condition_can_break_it(found):
    assert judge(found).verdict == "holds"
    only, mostly = found[ONLY], found[MOSTLY]
    fallen = only.least.copy()
    fallen[2, 3] = -1e-6
    assert judge(found | {ONLY: replace(only, least=fallen)}).verdict == "fails"
    assert judge(found | {ONLY: replace(only, spread=np.ones_like(only.spread))}).verdict == "fails"
    assert judge(found | {MOSTLY: replace(mostly, kl=mostly.kl + 2)}).verdict == "mixed"
    assert judge(found | {MOSTLY: replace(mostly, reward=-abs(mostly.reward))}).verdict == "mixed"
    assert judge(found | {MOSTLY: replace(mostly, entropy=only.entropy)}).verdict == "mixed"


def test_every_loop_begins_at_the_data(found):
    first = [(course.reward[:, 0], course.spread[:, 0]) for course in found.values()]
    assert all(np.array_equal(a, b) for of in first for a, b in zip(of, first[0], strict=True))
    assert all(course.kl[:, 0].max() == 0 for course in found.values())
