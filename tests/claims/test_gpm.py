"""The claim on cycles: it holds at its quick scale, and its rule on evidence made to break it."""

from __future__ import annotations

import pytest
import torch

from equipoise.claims.rewards.gpm import CYCLES, best_order, judge, random_scores, three_vectors
from equipoise.games import zoo
from equipoise.games.analyse import Fit

GOOD = {(rank, planes): [0.1 if planes < rank else 1e-9] * 2 for rank in (1, 2) for planes in range(3)}


def fit(planes: int, worst: float, accuracy: float) -> Fit:
    return Fit(planes=planes, mean=worst, worst=worst, accuracy=accuracy)


def judged(
    reward: float = 0.5, plane: float = 1.0, worst: float = 0.0, order: float = 2 / 3, random=GOOD, schur=0.0
):
    rows = [
        ("triangle", fit(0, 0.2, reward), fit(1, worst, plane)),
        ("five", fit(0, 0.3, 0.5), fit(1, 0.05, 1.0)),
    ]
    return judge(rows, order, random, schur).verdict


@pytest.mark.slow
def test_quick_scale_holds():
    evidence = CYCLES.run("quick")
    assert evidence.verdict == "holds", evidence.summary
    assert all(len(line.x) == 4 for panel in evidence.panels for line in panel.lines)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"reward": 2 / 3}, "fails"),
        ({"plane": 2 / 3}, "fails"),
        ({"worst": 1e-3}, "fails"),
        ({"order": 1.0}, "mixed"),
        ({"schur": 1e-3}, "mixed"),
        ({"random": GOOD | {(2, 2): [0.0, 1e-3]}}, "mixed"),
        ({"random": GOOD | {(2, 1): [0.1, 1e-4]}}, "mixed"),
    ],
)
def test_the_rule(change, expected):
    assert judged(**change) == expected


def test_best_order_of_known_games():
    assert best_order(three_vectors()) == pytest.approx(2 / 3)
    assert best_order(zoo.transitive(4)) == 1
    assert best_order(zoo.cyclic(5)) == pytest.approx(7 / 10)  # three of the ten edges must be turned


def test_random_scores_have_their_rank():
    assert [int(torch.linalg.matrix_rank(random_scores(k, 0))) for k in (1, 2, 3)] == [2, 4, 6]
