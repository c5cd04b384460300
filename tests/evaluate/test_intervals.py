"""Intervals: known values, coverage by simulation, and honesty at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from equipoise.evaluate.intervals import bootstrap, clustered_mean, clustered_share, wilson


def test_one_value_per_cluster_is_the_ordinary_t_interval() -> None:
    values = [0.1, 0.9, 0.4, 0.7, 0.3]
    got = clustered_mean(values, range(5))
    low, high = t.interval(0.95, 4, loc=np.mean(values), scale=np.std(values, ddof=1) / np.sqrt(5))
    assert got["n"] == 5
    assert got["value"] == pytest.approx(0.48)
    assert (got["low"], got["high"]) == pytest.approx((low, high))


def test_copies_inside_a_cluster_add_no_information() -> None:
    values, names = [0.1, 0.9, 0.4, 0.7], ["a", "b", "c", "d"]
    once, tenfold = clustered_mean(values, names), clustered_mean(values * 10, names * 10)
    assert tenfold["n"] == 40
    assert (tenfold["low"], tenfold["high"]) == pytest.approx((once["low"], once["high"]))


@pytest.mark.parametrize("interval", [clustered_mean, clustered_share])
def test_coverage_with_dependent_values_and_unequal_clusters(interval) -> None:
    """1 to 8 samples of each of 40 prompts: clustered intervals cover 95 % of the time, naive ones do not."""
    generator = np.random.default_rng(0)
    hits = naive = 0
    repeats, truth = 1500, 0.6
    for _ in range(repeats):
        sizes = generator.integers(1, 9, size=40)
        difficulty = generator.beta(0.6, 0.4, size=40)
        clusters = np.repeat(np.arange(40), sizes)
        wins = (generator.random(len(clusters)) < difficulty[clusters]).astype(float)
        got = interval(wins, clusters.tolist())
        hits += got["low"] <= truth <= got["high"]
        plain = wilson(int(wins.sum()), len(wins))
        naive += plain["low"] <= truth <= plain["high"]
    assert 0.93 <= hits / repeats <= 0.97
    assert naive / repeats < 0.85


@pytest.mark.parametrize("interval", [clustered_mean, clustered_share])
def test_coverage_with_few_clusters(interval) -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(1500):
        centre = generator.uniform(0.2, 0.8, size=(8, 1))
        values = (centre + generator.uniform(-0.2, 0.2, size=(8, 4))).ravel()
        got = interval(values, np.repeat(np.arange(8), 4).tolist())
        hits += got["low"] <= 0.5 <= got["high"]
    assert 0.93 <= hits / 1500 <= 0.975


def test_one_cluster_has_no_interval() -> None:
    for interval in (clustered_mean, clustered_share):
        assert interval([0.2, 0.9], ["x", "x"]) == {
            "value": pytest.approx(0.55),
            "low": None,
            "high": None,
            "n": 2,
        }


def test_a_share_where_every_prompt_agrees_is_not_a_certainty() -> None:
    won = clustered_share([1.0] * 12, [i // 2 for i in range(12)])
    assert won["high"] == pytest.approx(1.0)
    assert 0.4 < won["low"] < 0.6
    tied = clustered_share([0.1 + 0.2, 0.3] * 5, range(10))
    assert tied["low"] < 0.1 < 0.5 < tied["high"]
    point = clustered_mean([1.0] * 12, [i // 2 for i in range(12)])
    assert (point["low"], point["high"]) == (1.0, 1.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=40))
def test_a_share_stays_in_the_unit_interval_and_holds_its_mean(rows: list[tuple[float, int]]) -> None:
    got = clustered_share([v for v, _ in rows], [c for _, c in rows])
    if got["low"] is not None:
        assert 0 <= got["low"] <= got["value"] + 1e-9
        assert got["value"] - 1e-9 <= got["high"] <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (10, 10), (253, 1000)])
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    ours, theirs = wilson(successes, n, 0.9), binomtest(successes, n).proportion_ci(0.9, method="wilson")
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: clustered_mean([], []),
        lambda: clustered_mean([1.0], [1, 2]),
        lambda: clustered_mean([float("nan"), 1.0], [1, 2]),
        lambda: clustered_mean([1.0, 2.0], [1, 2], level=1.0),
        lambda: clustered_share([0.5, 1.5], [1, 2]),
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
    ],
)
def test_refuses(call) -> None:
    with pytest.raises(ValueError):
        call()


def test_bootstrap_of_a_mean_agrees_with_its_t_interval():
    values = np.random.default_rng(0).normal(size=120)
    by_t = clustered_mean(values, range(120))
    drawn = bootstrap(float(values.mean()), lambda rows: float(values[rows].mean()), range(120), draws=800)
    assert drawn["low"] == pytest.approx(by_t["low"], abs=0.03)
    assert drawn["high"] == pytest.approx(by_t["high"], abs=0.03)


def test_bootstrap_draws_whole_prompts():
    seen = []
    bootstrap(0.0, lambda rows: seen.append(sorted(rows)) or 0.0, ["a", "a", "b"], draws=30)
    assert {tuple(rows) for rows in seen} == {(0, 0, 1, 1), (0, 1, 2), (2, 2)}


def test_bootstrap_of_one_prompt_or_no_value_has_no_interval():
    assert bootstrap(1.0, lambda rows: 1.0, ["a", "a"])["low"] is None
    assert bootstrap(1.0, lambda rows: float("nan"), ["a", "b"])["low"] is None
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap(1.0, lambda rows: 1.0, [])
