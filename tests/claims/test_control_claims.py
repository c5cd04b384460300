"""Claims of control: their verdicts follow from the figures, either way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from equipoise.claims.control import cpl, elicitation, pareto
from equipoise.claims.index import get


def returns(**moved: float) -> dict[str, np.ndarray]:
    level = {
        cpl.CLONE: -900.0,
        cpl.PREFERRED: -450.0,
        cpl.BIASED: -200.0,
        cpl.PLAIN: -200.0,
        cpl.PARTIAL: -1300.0,
    }
    noise = np.random.default_rng(0).normal(0, 10, size=(5, 5))
    return {name: value + moved.get(name, 0.0) + noise[k] for k, (name, value) in enumerate(level.items())}


@pytest.mark.parametrize(
    "moved, verdict",
    [
        ({}, "holds"),
        ({cpl.PLAIN: -300.0}, "fails"),
        ({cpl.PREFERRED: -400.0, cpl.CLONE: 100.0}, "mixed"),
        ({cpl.PARTIAL: 1100.0}, "mixed"),
        ({cpl.BIASED: -900.0}, "holds"),  # nothing is claimed of it
    ],
)
def test_the_verdict_of_cpl_follows_from_the_returns(moved: dict[str, float], verdict: str):
    assert cpl.judge(returns(**moved)).verdict == verdict


def test_an_interval_that_reaches_zero_is_no_advance():
    figures = returns()
    figures[cpl.PLAIN] = figures[cpl.PREFERRED] + np.array([500.0, -400.0, 300.0, -200.0, 100.0])
    assert cpl.judge(figures).verdict == "fails"


@pytest.mark.slow
def test_linear_preferences_miss_what_extension_finds():
    evidence = get("cmorl_front").run("quick")
    assert evidence.verdict == "holds"
    front = {
        "concave": pareto.discover(
            pareto.deep_sea_treasure("concave"), reference=(0, -50), weights=3, rounds=1
        )
    }
    shrunk = replace(front["concave"], stages=front["concave"].stages[::-1])
    assert pareto.judge({"concave": shrunk}).verdict == "fails"


@pytest.mark.parametrize("penalty, verdict", [(50.0, "holds"), (5.0, "mixed")])
def test_the_verdict_of_elicitation_follows_from_the_courses(penalty: float, verdict: str):
    noise = np.random.default_rng(0).normal(0, 1, size=(4, 30, elicitation.QUERIES + 1))
    level = dict(zip(elicitation.WAYS, (80.0, 60.0, 40.0, 80.0 - penalty), strict=True))
    figures = {name: value + noise[k] for k, (name, value) in enumerate(level.items())}
    assert elicitation.judge(figures).verdict == verdict
    names = list(level)
    figures[names[0]] = figures[names[2]] - 1
    assert elicitation.judge(figures).verdict == "fails"
