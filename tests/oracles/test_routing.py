"""Routing comparisons to people or a judge: features by hand, and the properties of the predictor's choice."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.oracles.hybrid.comparison_features import Binning, Comparison, lexical
from equipoise.oracles.hybrid.routing import Mixes, Predictor, draw_mix, fit_predictor, simulate

WORDS = ("red", "blue", "Paris", "7", "green", "dog")
TEXT = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
PAIRS = st.lists(
    st.builds(Comparison, id=st.just(""), prompt=TEXT, first=TEXT, second=TEXT), min_size=1, max_size=6
).map(lambda found: [replace(c, id=str(i)) for i, c in enumerate(found)])


def linear(weights, scale=None):
    weights = np.asarray(weights, dtype=float)
    return Predictor(0.5, weights, np.ones(len(weights)) if scale is None else scale, False, None)


def test_features_by_hand():
    found = lexical(
        Comparison(id="1", prompt="Which city?", first="Paris is a city", second="Rome, a city of 7 hills")
    )
    assert found == pytest.approx(
        {
            "prompt_length": 2,
            "response_length": 5,
            "length_difference": 2,
            "length_ratio": 4 / 6,
            "overlap": 2 * 2 / 10,  # a, city
            "pair_overlap": 2 * 1 / 8,  # a city
            "prompt_overlap": (1 / 4 + 1 / 6) / 2,
            "name_overlap": 0,  # Paris against Rome, 7
        }
    )


def test_features_of_nothing():
    assert lexical(Comparison(id="1", prompt="", first="", second=""))["length_ratio"] == 1
    assert lexical(Comparison(id="1", prompt="", first="a", second=""))["overlap"] == 0


@given(PAIRS)
def test_features_do_not_depend_on_the_order_of_responses(pairs):
    turned = [replace(c, first=c.second, second=c.first) for c in pairs]
    assert all(lexical(a) == pytest.approx(lexical(b)) for a, b in zip(pairs, turned, strict=True))
    binning = Binning.of(pairs)
    assert np.array_equal(binning.apply(pairs), Binning.of(turned).apply(turned))
    phi = binning.apply(pairs)
    assert phi.shape == (len(pairs), len(binning.names))
    assert (phi.reshape(len(pairs), -1, 3).sum(axis=2) == 1).all()  # one bin of each


def test_bins_of_percentiles_of_the_unit_interval_and_of_tags():
    pool = [
        Comparison(
            id=str(n), prompt="x " * n, first="a", second="a", tags={"topic": "even" if n % 2 == 0 else "odd"}
        )
        for n in range(1, 10)
    ]
    binning = Binning.of(pool)
    phi = dict(zip(binning.names, binning.apply(pool).T, strict=True))
    assert [int(phi[f"prompt_length: {size}"].sum()) for size in ("low", "middle", "high")] == [3, 3, 3]
    assert phi["overlap: high"].all()
    assert phi["topic = odd"].tolist() == [1, 0] * 4 + [1]
    other = binning.apply([replace(pool[0], tags={"topic": "new"})])
    assert other[0, -2:].tolist() == [0, 0]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 7), st.data())
def test_linear_routes(seed, count, data):
    draw = np.random.default_rng(seed)
    phi = draw.integers(0, 2, (count, 4)).astype(float)
    budget = data.draw(st.integers(0, count))
    ids = [f"row {i}" for i in range(count)]
    predictor = linear(draw.normal(size=4))
    chosen = predictor.route(phi, budget, ids)
    assert int(chosen.sum()) == budget
    # the exact optimum among all mixes of this budget
    every = [phi[list(c)].sum(axis=0) for c in combinations(range(count), budget)]
    assert float(predictor.predict(phi[chosen].sum(axis=0))) == pytest.approx(
        max(float(predictor.predict(np.asarray(counts))) for counts in every)
    )
    # permuting rows permutes the route
    order = draw.permutation(count)
    permuted = predictor.route(phi[order], budget, [ids[i] for i in order])
    assert np.array_equal(permuted, chosen[order])
    # a gain that all instances share changes nothing
    with_one = np.concatenate([phi, np.ones((count, 1))], axis=1)
    shifted = linear(np.append(predictor.weights, 3.7))
    assert np.array_equal(shifted.route(with_one, budget, ids), chosen)


def test_no_budget_is_all_ai_and_the_whole_is_all_people():
    phi = np.eye(3)
    for quadratic in (False, True):
        weights = np.arange(9.0) if quadratic else np.arange(3.0)
        predictor = Predictor(0.0, weights, np.ones(3), quadratic, None)
        assert not predictor.route(phi, 0, "abc").any()
        assert predictor.route(phi, 3, "abc").all()


def test_a_quadratic_predictor_sees_what_a_linear_one_cannot():
    """Two kinds of pairs, of which people should label some each: performance is the product of their counts."""
    phi = np.repeat(np.eye(2), 10, axis=0)
    mixes = Mixes(
        np.array([[a, b] for a in range(11) for b in range(11)], dtype=float),
        np.array([a * b for a in range(11) for b in range(11)], dtype=float),
    )
    ids = [str(i) for i in range(20)]
    bent = fit_predictor(mixes, quadratic=True, ridge=1e-8)
    assert phi[bent.route(phi, 10, ids)].sum(axis=0).tolist() == [5, 5]
    assert bent.r_squared == pytest.approx(1, abs=1e-3)
    flat = fit_predictor(mixes, ridge=1e-8)
    assert flat.r_squared < 0.95
    order = np.random.default_rng(0).permutation(20)
    assert np.array_equal(
        bent.route(phi[order], 10, [ids[i] for i in order]), bent.route(phi, 10, ids)[order]
    )


def test_the_regression_finds_the_gains():
    draw = np.random.default_rng(0)
    phi = draw.integers(0, 2, (60, 5)).astype(float)
    worth = np.array([0.3, -0.2, 0.0, 0.1, 0.5])

    def measure(chosen):
        return float(0.6 + (phi[chosen] @ worth).sum() / 60)

    found = fit_predictor(simulate(phi, measure, count=100, seed=0), ridge=1e-9)
    assert found.gains(np.eye(5)).tolist() == pytest.approx((worth / 60).tolist(), abs=1e-6)
    assert found.r_squared == pytest.approx(1)
    assert float(found.predict(phi.sum(axis=0))) == pytest.approx(measure(np.ones(60, dtype=bool)))


def test_simulated_budgets_are_even_and_exact():
    phi = np.ones((40, 1))
    seen = []
    simulate(phi, lambda chosen: seen.append(int(chosen.sum())) or 0.0, count=41, seed=0)
    assert sorted(seen) == list(range(41))


def test_mixes_differ_in_what_they_hold():
    phi = np.repeat(np.eye(2), 50, axis=0)
    draw = np.random.default_rng(0)
    shares = [float(phi[draw_mix(phi, 50, draw)][:, 0].mean()) for _ in range(50)]
    assert np.std(shares) > 0.15  # evenly drawn: 0.05


@pytest.mark.parametrize(
    "act",
    [
        lambda: linear([1.0]).route(np.ones((2, 1)), 3, ["a", "b"]),
        lambda: linear([1.0]).route(np.ones((2, 1)), 1, ["a", "a"]),
        lambda: fit_predictor(Mixes(np.ones((1, 2)), np.ones(1))),
        lambda: simulate(np.ones((3, 1)), lambda chosen: 0.0, count=1, seed=0),
        lambda: simulate(np.ones((3, 1)), lambda chosen: float("nan"), count=3, seed=0),
        lambda: Mixes(np.ones((2, 2)), np.ones(3)),
        lambda: Binning.of([]),
    ],
)
def test_what_is_refused(act):
    with pytest.raises(ValueError, match=r"people can|of its own|need|not finite|must be|there is none"):
        act()
