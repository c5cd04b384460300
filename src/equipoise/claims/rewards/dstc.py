"""DSTC (2411.13611): how many pairs of self-written code and tests are right about the code, by the rule of choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.play.pairings.self_tested import Choice, minimax

Bools = npt.NDArray[np.bool_]
CODES, TESTS = 8, 8
AGREE = 0.1  # a wrong code passes a wrong test: both err alike
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (10, 300), "full": (20, 1000)}  # seeds, problems of each
# share of right codes, share of right tests
QUALITIES: Mapping[str, tuple[float, float]] = {
    "good codes, good tests": (0.6, 0.8),
    "good codes, poor tests": (0.6, 0.4),
    "poor codes, good tests": (0.25, 0.8),
    "poor codes, poor tests": (0.25, 0.4),
}
MINIMAX, EXTREMES, RANDOM = "minimax", "most and fewest passes", "random"


@dataclass(frozen=True)
class Problem:
    """Which codes and which tests are right, and what passes what."""

    codes: Bools
    tests: Bools
    passed: Bools


def problem(rng: np.random.Generator, right_codes: float, right_tests: float) -> Problem:
    """A problem at random. A right code passes exactly the right tests; a wrong one passes a right test unless the test
    is hard enough to show its error, and a wrong test where both err alike."""
    codes, tests = rng.random(CODES) < right_codes, rng.random(TESTS) < right_tests
    hardness = rng.random(TESTS)
    blind = rng.random((CODES, TESTS)) > hardness  # a wrong code passes a right test
    alike = rng.random((CODES, TESTS)) < AGREE
    passed = np.where(codes[:, None], tests, np.where(tests, blind, alike))
    return Problem(codes, tests, passed)


def by_minimax(found: Problem, rng: np.random.Generator) -> Choice | None:
    return minimax(found.passed, np.ones(TESTS, bool))


def by_extremes(found: Problem, rng: np.random.Generator) -> Choice | None:
    """The code with the most passes and the test that most codes pass, among what it passes; the code with the fewest
    passes and the test that fewest pass, among what it fails."""
    passed = found.passed
    best, worst = int(passed.sum(axis=1).argmax()), int(passed.sum(axis=1).argmin())
    if not passed[best].any() or passed[worst].all():
        return None
    of_test = passed.sum(axis=0)
    easiest = int(np.where(passed[best], of_test, -1).argmax())
    hardest = int(np.where(~passed[worst], of_test, CODES + 1).argmin())
    return Choice(best, easiest, worst, hardest)


def by_chance(found: Problem, rng: np.random.Generator) -> Choice | None:
    """Any code with a test that it passes, against any code with a test that it fails."""
    right, wrong = np.argwhere(found.passed), np.argwhere(~found.passed)
    if not len(right) or not len(wrong):
        return None
    good, bad = (
        (int(k) for k in right[rng.integers(len(right))]),
        (int(k) for k in wrong[rng.integers(len(wrong))]),
    )
    return Choice(*good, *bad)


RULES: Mapping[str, Callable[[Problem, np.random.Generator], Choice | None]] = {
    MINIMAX: by_minimax,
    EXTREMES: by_extremes,
    RANDOM: by_chance,
}
FIGURES = (
    "right order of codes",
    "chosen code right",
    "chosen test right",
    "rejected test right",
    "problems",
)


def shares(seeds: int, problems: int) -> dict[str, dict[str, Array]]:
    """quality -> rule -> [seeds, figures]: shares of the pairs, and of problems that give one.

    The order is right where the chosen code is right and the rejected one wrong. Every rule sees the same problems.
    """
    found: dict[str, dict[str, list[list[float]]]] = {q: {rule: [] for rule in RULES} for q in QUALITIES}
    for quality, settings in QUALITIES.items():
        for seed in range(seeds):
            rng = numpy_draws(seed)
            drawn = [problem(rng, *settings) for _ in range(problems)]
            for rule, choose in RULES.items():
                made = [(p, choice) for p in drawn if (choice := choose(p, rng))]
                marks = [
                    (
                        p.codes[c.code] and not p.codes[c.rejected_code],
                        p.codes[c.code],
                        p.tests[c.test],
                        p.tests[c.rejected_test],
                    )
                    for p, c in made
                ]
                share = np.array(marks, dtype=float).mean(axis=0)
                found[quality][rule].append([*share, len(made) / problems])
    return {q: {rule: np.array(rows) for rule, rows in of.items()} for q, of in found.items()}


def judge(found: Mapping[str, Mapping[str, Array]]) -> Evidence:
    leads = {
        (quality, rule): interval(of[MINIMAX][:, :1] - of[rule][:, :1])
        for quality, of in found.items()
        for rule in (EXTREMES, RANDOM)
    }
    heart = all(low[0] > 0 for (_, rule), (_, low, _) in leads.items() if rule == RANDOM)
    also = [bool(low[0] > 0) for (_, rule), (_, low, _) in leads.items() if rule == EXTREMES]
    tests = [
        bool(interval(of[MINIMAX][:, 3:4] - of[rule][:, 3:4])[1][0] > 0)
        for of in found.values()
        for rule in (EXTREMES, RANDOM)
    ]
    points = "; ".join(
        f"{quality}: {100 * mean[0]:+.1f} ({100 * low[0]:+.1f} to {100 * high[0]:+.1f}) over {rule}"
        for (quality, rule), (mean, low, high) in leads.items()
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (quality, rule, *map(float, values.mean(axis=0)))
        for quality, of in found.items()
        for rule, values in of.items()
    )
    return Evidence(
        verdict=verdict(heart, [*also, *tests]),
        summary=f"Points of pairs with the codes in the right order that the minimax choice has more: {points}.",
        tables=(Table("shares of the pairs, means over seeds", ("sampled", "rule", *FIGURES), rows),),
    )


def run(scale: Scale) -> Evidence:
    return judge(shares(*PLANS[scale]))


MINIMAX_CHOICE = Claim(
    name="dstc_minimax",
    sentence="A minimax selection makes reliable preference pairs of self-generated code and tests and reduces the "
    "influence of wrong tests.",
    paper="2411.13611",
    rule="Simulated tables of 8 codes and 8 tests in four qualities. Heart: in every quality more of the minimax pairs "
    "have a right code chosen over a wrong one than of random pairs (a code with a test that it passes, against one "
    "with a test that it fails; 95 % interval over seeds above 0). Also: more than of pairs of most and fewest "
    "passes, in "
    "every quality; and its rejected test is right more often than that of either other rule, so that the code is "
    "rejected for its own error.",
    program=run,
)
