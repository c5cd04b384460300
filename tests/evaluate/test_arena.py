"""Bradley-Terry ratings, Arena-Hard's figures and exploitability: hand-made numbers, known equilibria, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from equipoise.evaluate.arena.bradley_terry import Battles, finite, fit, mean_scores, rated
from equipoise.evaluate.arena.exploitability import cycles, exploitability, nash

ROCK = np.array([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]])


def battles(rows, models=("base", "a", "b")):
    """Battles of (first, second, credit, weight, prompt)."""
    first, second, prob, weight, prompts = zip(*rows, strict=True)
    index = {name: k for k, name in enumerate(models)}
    return Battles(
        models,
        np.array([index[n] for n in first]),
        np.array([index[n] for n in second]),
        np.array(prob, float),
        np.array(weight, float),
        list(prompts),
    )


def test_against_the_baseline_alone_the_win_rate_is_the_mean_credit():
    made = battles([("a", "base", p, 1, k) for k, p in enumerate([1, 1, 1, 0, 0.5])], ("base", "a"))
    best, other = rated(made, "base", draws=20)
    assert best.model == "a" and best.win_rate["value"] == pytest.approx(0.7, abs=1e-6)
    assert best.rating == pytest.approx(1000 + 400 * math.log10(0.7 / 0.3), abs=1e-3)
    assert (other.rating, other.win_rate["value"]) == (1000, 0.5)


def test_maximum_likelihood_by_hand_for_three_models():
    # a beats base 3 of 4, b beats a 2 of 4, base beats b 1 of 2: a grid finds the same maximum
    made = battles([("a", "base", 0.75, 4, 0), ("b", "a", 0.5, 4, 1), ("base", "b", 0.5, 2, 2)])
    theta = fit(made, 0)
    z = lambda x, y: math.log(1 / (1 + math.exp(-(x - y))))  # noqa: E731

    def likelihood(a, b):
        return 3 * z(a, 0) + z(0, a) + 2 * z(b, a) + 2 * z(a, b) + z(0, b) + z(b, 0)

    grid = np.linspace(-1, 2, 151)
    best = max((likelihood(a, b), a, b) for a in grid for b in grid)
    assert theta[1:] == pytest.approx(best[1:], abs=0.021)


def test_repeating_all_battles_leaves_the_estimate():
    rows = [
        ("a", "base", 1, 1, 0),
        ("a", "base", 0, 3, 1),
        ("b", "a", 0.5, 1, 2),
        ("base", "b", 1, 1, 3),
        ("b", "base", 1, 1, 4),
    ]
    assert fit(battles(rows * 3), 0) == pytest.approx(fit(battles(rows), 0), abs=1e-9)


def test_all_ties_are_one_half_and_swapping_sides_mirrors():
    ties = battles([("a", "base", 0.5, 1, k) for k in range(4)], ("base", "a"))
    assert fit(ties, 0)[1] == pytest.approx(0)
    rows = [("a", "base", p, 1, k) for k, p in enumerate([1, 0.5, 1, 0])]
    mirrored = battles([("base", "a", 1 - p, w, k) for _, _, p, w, k in rows], ("base", "a"))
    assert fit(mirrored, 0) == pytest.approx(fit(battles(rows, ("base", "a")), 0))


def test_whoever_won_everything_has_no_finite_rating():
    made = battles([("a", "base", 1, 1, 0), ("b", "base", 1, 1, 0), ("b", "base", 0, 1, 1)])
    assert finite(made, 0).tolist() == [True, False, True]
    best = rated(made, "base", draws=5)[0]
    assert (best.model, best.rating) == ("a", None) and best.win_rate["value"] > 0.999


def test_prompts_are_resampled_whole():
    """Forty copies of two prompts say no more than two prompts do."""
    rows = [("a", "base", float(k % 2), 1, k % 2) for k in range(80)]

    def width(made):
        (own,) = (r.win_rate for r in rated(made, "base", draws=60) if r.model == "a")
        return own["high"] - own["low"]

    assert width(battles(rows, ("base", "a"))) > 0.9
    assert width(battles([(*r[:4], k) for k, r in enumerate(rows)], ("base", "a"))) < 0.35


def test_mean_score_counts_strong_verdicts_three_times():
    made = battles([("a", "base", 1, 3, 0), ("a", "base", 0, 1, 0), ("a", "base", 0.5, 1, 1)], ("base", "a"))
    assert mean_scores(made, 1)["value"] == pytest.approx((3 + 0 + 0.5) / 5)


def test_no_battle_is_refused():
    with pytest.raises(ValueError, match="no battle with the baseline 'x'"):
        rated(battles([("a", "base", 1, 1, 0)], ("base", "a")), "x")


def test_rock_paper_scissors_has_the_uniform_mixture_and_a_circle():
    assert nash(ROCK) == pytest.approx([1 / 3] * 3)
    assert cycles(ROCK) == (False, 1.0)
    every = np.repeat(ROCK[None], 20, axis=0)
    uniform = exploitability(every, np.full(3, 1 / 3))
    assert uniform.interval["value"] == pytest.approx(0, abs=1e-12)
    pure = exploitability(every, np.array([1.0, 0, 0]))
    assert pure.interval["value"] == pytest.approx(0.5) and pure.exploiter == 2


def test_a_bradley_terry_population_has_a_pure_winner():
    strength = np.array([0.3, -1.0, 0.9, 0.0])
    preference = 1 / (1 + np.exp(-(strength[:, None] - strength)))
    assert nash(preference) == pytest.approx([0, 0, 1, 0], abs=1e-9)
    assert cycles(preference) == (True, 0.0)


def test_a_duplicate_changes_nobodys_exploitability():
    twice = ROCK[np.ix_([0, 1, 2, 2], [0, 1, 2, 2])]
    found = exploitability(np.repeat(twice[None], 8, axis=0), np.array([1 / 3, 1 / 3, 1 / 6, 1 / 6]))
    assert found.interval["value"] == pytest.approx(0, abs=1e-12)


def judged(preference, prompts, random):
    """One judged comparison of each pair of models on each prompt; the prompts have tastes of their own."""
    count = len(preference)
    logit = np.log(preference / (1 - preference)) + random.standard_normal((prompts, 1, 1)) * np.triu(
        np.ones((count, count)), 1
    )
    chance = 1 / (1 + np.exp(-logit))
    wins = np.full((prompts, count, count), 0.5)
    for i in range(count):
        for j in range(i):
            wins[:, j, i] = random.random(prompts) < chance[:, j, i]
            wins[:, i, j] = 1 - wins[:, j, i]
    return wins


def exact(preference, mixture):
    """Exploitability with the tastes of infinitely many prompts, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    count = len(preference)
    mean = np.full((count, count), 0.5)
    for i in range(count):
        for j in range(i):
            z = np.log(preference[j, i] / (1 - preference[j, i])) + nodes
            mean[j, i] = float((weights / (1 + np.exp(-z))).sum())
            mean[i, j] = 1 - mean[j, i]
    return float((mean @ mixture).max()) - 0.5


SOFT = 0.5 + 0.6 * (ROCK - 0.5)
LADDER = 1 / (1 + np.exp(-(np.array([0.0, 0.1, 0.2, 0.9])[:, None] - np.array([0.0, 0.1, 0.2, 0.9]))))


@pytest.mark.parametrize(
    ("preference", "mixture"),
    [
        (SOFT, [1.0, 0, 0]),
        (SOFT, [0.5, 0.3, 0.2]),
        (SOFT, [1 / 3, 1 / 3, 1 / 3]),  # nobody exploits it much, everybody equally
        (LADDER, [1.0, 0, 0, 0]),
        (LADDER, [0.25] * 4),
    ],
)
def test_the_interval_covers_the_exact_exploitability_in_90_of_100_repetitions(preference, mixture):
    truth, random = exact(preference, np.array(mixture)), np.random.default_rng(7)
    covered, naive, split = 0, [], []
    for repetition in range(100):
        found = exploitability(judged(preference, 60, random), np.array(mixture), seed=repetition)
        covered += found.interval["low"] <= truth <= found.interval["high"]
        naive.append(found.naive)
        split.append(found.interval["value"])
    assert covered >= 90
    assert np.mean(naive) > truth - 0.005  # the maximum over noise errs upwards
    # split halves never do, but where the truth is 0 and estimates below it are cut
    assert truth < 1e-12 or np.mean(split) < truth + 3 * np.std(split) / 10


@pytest.mark.parametrize(
    ("wins", "mixture", "says"),
    [
        (np.full((8, 2, 2), 0.7), [0.5, 0.5], "sum to 1 on every row"),
        (np.full((8, 2, 2), 0.5), [0.5, 0.6], "must be a distribution"),
        (np.full((3, 2, 2), 0.5), [0.5, 0.5], "3 prompts are too few"),
        (np.full((8, 3, 2), 0.5), [0.5, 0.5], "need wins"),
    ],
)
def test_impossible_games_are_refused(wins, mixture, says):
    with pytest.raises(ValueError, match=says):
        exploitability(wins, np.array(mixture))
