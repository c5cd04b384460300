"""Intervals: known values, coverage by simulation, and honesty at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from equipoise.core.intervals import POSITIVE, bootstrap, clustered_mean, clustered_share, jackknife, wilson


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
        lambda: clustered_mean([0.5, 1.5], [1, 2], bounds=(0.0, 1.0)),
        lambda: clustered_mean([0.5, -0.1], [1, 2], bounds=POSITIVE),
        lambda: clustered_share([0.5, 1.5], [1, 2]),
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
    ],
)
def test_refuses(call) -> None:
    with pytest.raises(ValueError):
        call()


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 5)), min_size=1, max_size=40),
    st.sampled_from([(-1.0, 1.0), (-1.0, np.inf), (-np.inf, 1.0), (-3.0, 1.5)]),
)
def test_a_bounded_mean_has_its_interval_between_the_bounds(rows, bounds) -> None:
    values, clusters = [v for v, _ in rows], [c for _, c in rows]
    for got in (
        clustered_mean(values, clusters, bounds=bounds),
        jackknife(lambda kept: float(np.array(values)[kept].mean()), clusters, bounds=bounds),
    ):
        if got["low"] is not None:
            assert bounds[0] - 1e-9 <= got["low"] <= got["value"] + 1e-9
            assert got["value"] - 1e-9 <= got["high"] <= bounds[1] + 1e-9


def test_a_bounded_interval_is_the_t_interval_of_the_logit_or_the_log() -> None:
    """By hand: mean 0.3 of (0.1, 0.2, 0.6), whose squared deviations sum to 0.14; t_2 = 4.302653."""
    values, se = [0.1, 0.2, 0.6], np.sqrt(0.14 / 6)
    logit = clustered_mean(values, range(3), bounds=(0.0, 1.0))
    ends = np.log(0.3 / 0.7) + np.array([-1, 1]) * 4.302653 * se / (0.3 * 0.7)
    assert (logit["low"], logit["high"]) == pytest.approx(tuple(1 / (1 + np.exp(-ends))))
    log = clustered_mean(values, range(3), bounds=POSITIVE)
    ends = np.log(0.3) + np.array([-1, 1]) * 4.302653 * se / 0.3
    assert (log["low"], log["high"]) == pytest.approx(tuple(np.exp(ends)))
    below = clustered_mean([-v for v in values], range(3), bounds=(-np.inf, 0.0))
    assert (below["low"], below["high"]) == pytest.approx((-log["high"], -log["low"]))


def test_bounds_far_away_change_nothing() -> None:
    values = [0.1, 0.2, 0.6, 0.4]
    plain = clustered_mean(values, range(4))
    for bounds in ((-1e6, 1e6), (-1e6, np.inf), (-np.inf, 1e6)):
        far = clustered_mean(values, range(4), bounds=bounds)
        assert (far["low"], far["high"]) == pytest.approx((plain["low"], plain["high"]), abs=1e-5)


def test_perfect_agreement_of_few_prompts_is_no_certainty() -> None:
    """kappa = 1 on 8 prompts is a share of 1 in 8 trials, on the scale from -1 to 1."""
    share = clustered_share([1.0] * 8, range(8))
    found = jackknife(lambda rows: 1.0, range(8), bounds=(-1.0, 1.0))
    assert (found["low"], found["high"]) == pytest.approx((2 * share["low"] - 1, 1.0))


def _correlation(u, v):
    return lambda rows: float(
        np.sum(u[rows] * v[rows]) / np.sqrt(np.sum(u[rows] ** 2) * np.sum(v[rows] ** 2))
    )


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_coverage_of_a_correlation_with_few_prompts(rho) -> None:
    """Fisher's z covers where the plain jackknife interval leaves [-1, 1] and misses the truth."""
    generator, repeats = np.random.default_rng(2), 600
    hits = plain = 0
    for _ in range(repeats):
        u, noise = generator.normal(size=(2, 6))
        statistic = _correlation(u, rho * u + np.sqrt(1 - rho**2) * noise)
        inside = jackknife(statistic, range(6), bounds=(-1.0, 1.0))
        outside = jackknife(statistic, range(6))
        hits += inside["low"] <= rho <= inside["high"]
        plain += outside["low"] <= rho <= outside["high"]
    assert hits / repeats >= 0.91
    assert plain < hits


@pytest.mark.parametrize(
    ("draw", "truth", "bounds"),
    [
        # a Brier score: beta(1/2, 2) has mean 1/5; a log-loss: gamma(2) has mean 2; a bias between -1 and 1
        (lambda generator: generator.beta(0.5, 2, size=5), 0.2, (0.0, 1.0)),
        (lambda generator: generator.gamma(2, size=5), 2.0, POSITIVE),
        (lambda generator: 2 * generator.beta(4, 1, size=5) - 1, 0.6, (-1.0, 1.0)),
    ],
)
def test_coverage_of_a_bounded_mean_of_few_prompts(draw, truth, bounds) -> None:
    generator, repeats = np.random.default_rng(3), 1000
    hits = plain = 0
    for _ in range(repeats):
        values = draw(generator)
        inside, outside = clustered_mean(values, range(5), bounds=bounds), clustered_mean(values, range(5))
        hits += inside["low"] <= truth <= inside["high"]
        plain += outside["low"] <= truth <= outside["high"]
    assert 0.92 <= hits / repeats <= 0.97
    assert plain < hits


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
