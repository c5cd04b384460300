"""Rows that do not supply what an objective reads are refused with one sentence that says what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from equipoise.core.objectives import CATALOG
from equipoise.play.row_check import unmet
from equipoise.play.rows import Rows


def rows(width: int = 2, **judged: Any) -> Rows:
    return Rows(
        prompts=np.arange(3),
        responses=np.zeros((3, width), dtype=int),
        weight=np.ones(3),
        writers=("recorded",) * width,
        **judged,
    )


REWARDS = np.full((3, 2), 0.5)
WEIGHTS = {"utility": np.ones((3, 2, 4)), "divergence": np.ones((3, 2, 4))}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("spac", rows(2), "Spac reads 3 responses per prompt, the comparisons have 2"),
        ("dpo", rows(3), "reads 2 responses per prompt, the comparisons have 3"),
        ("rloo", rows(1), "Rloo reads 2 or more responses per prompt, the comparisons have 1"),
        ("rloo", rows(2), "Rloo reads rewards, and the pairing gives none"),
        ("bco", rows(1), "Bco reads labels of single responses, and the pairing gives none"),
        ("ipo", rows(2, reward=REWARDS), "Ipo reads pair labels, and the pairing gives rewards only"),
        ("sparse_po", rows(2), "nothing supplies: divergence, utility; use the update TokenWeighted"),
        ("sparse_po", rows(2, token_weights=WEIGHTS), "reads reference from models kept in memory"),
        ("spo_degree", rows(8), "reads degree from models kept in memory"),
    ],
)
def test_what_is_missing_is_named(name: str, given: Rows, message: str):
    assert message in str(unmet(CATALOG[name].build(), given, live=False, learned=set()))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("dpo", rows(2)),
        ("dpo", rows(2, prob=np.ones(3), reward=REWARDS)),
        ("rloo", rows(4, reward=np.zeros((3, 4)))),
        ("kto", rows(2, reward=REWARDS)),
    ],
)
def test_rows_that_supply_everything_pass(name: str, given: Rows):
    assert unmet(CATALOG[name].build(), given, live=False, learned=set()) is None


def test_an_auxiliary_head_supplies_the_token_weights_that_it_learns():
    objective = CATALOG["sparse_po"].build()
    assert unmet(objective, rows(2), live=True, learned={"utility", "divergence"}) is None
    assert "nothing supplies: divergence;" in str(unmet(objective, rows(2), live=True, learned={"utility"}))
    half = replace(rows(2), token_weights={"divergence": WEIGHTS["divergence"]})
    assert unmet(objective, half, live=True, learned={"utility"}) is None
