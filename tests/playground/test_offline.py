"""Recorded pairs: labels follow P, coverage is what it says, the same seed gives the same rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from equipoise.playground import LanguageGame, pairs, reference_policy, write_pairs
from equipoise.playground.grammar import ANSWERS
from equipoise.playground.offline import NARROW, lucky_style

GAME = LanguageGame()
REFERENCE = reference_policy()


def rows(n: int = 4000, **options: Any) -> list[dict[str, Any]]:
    return pairs(GAME, n, **{"reference": REFERENCE, **options})


def index(row: dict[str, Any]) -> tuple[int, int, int]:
    return (
        GAME.prompts.index(row["prompt"]),
        GAME.responses.index(row["chosen"]),
        GAME.responses.index(row["rejected"]),
    )


def p_value(table: list[dict[str, Any]], noise: float) -> float:
    """Chi-square over bins of P, of how often the lower-numbered response was chosen."""
    x, chosen, rejected = np.array([index(row) for row in table]).T
    low, high = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
    prob = GAME.preference.numpy()[x, low, high]
    prob = prob * (1 - noise) + (1 - prob) * noise
    bins = np.digitize(prob, np.linspace(0, 1, 11))
    seen = np.bincount(bins, chosen == low, minlength=12)
    mean = np.bincount(bins, prob, minlength=12)
    variance = np.bincount(bins, prob * (1 - prob), minlength=12)
    used = variance > 5
    return float(chi2.sf(((seen - mean)[used] ** 2 / variance[used]).sum(), used.sum()))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_labels_follow_the_panel_and_the_noise(noise: float) -> None:
    table = rows(noise=noise)
    assert p_value(table, noise) > 1e-3
    assert p_value(table, 0.2 - noise) < 1e-6  # and the test can tell the two apart
    flipped = sum(row["meta"]["flipped"] for row in table) / len(table)
    assert flipped == pytest.approx(noise, abs=0.02)


def test_rows_are_text_pairs_of_the_training_prompts() -> None:
    table = rows(coverage="uniform")
    assert {index(row)[0] for row in table} == set(GAME.train)
    for row in table:
        x, chosen, rejected = index(row)
        assert chosen != rejected
        assert row["meta"]["prob"] == GAME.preference[x, chosen, rejected].item()


@pytest.mark.parametrize("coverage", ["reference", "uniform"])
def test_responses_follow_the_coverage(coverage: Any) -> None:
    weight = REFERENCE if coverage == "reference" else torch.full_like(REFERENCE, 1 / 24)
    weight = weight[GAME.train]
    distinct = weight * (1 - weight) / (1 - weight.square().sum(1, keepdim=True))  # given that the two differ
    table = rows(coverage=coverage)
    count = Counter(y for row in table for y in index(row)[1:])
    seen = np.array([count[y] for y in range(24)]) / (2 * len(table))
    assert seen == pytest.approx(distinct.mean(0).numpy(), abs=0.012)


def test_narrow_coverage_keeps_the_likeliest_answers() -> None:
    top = REFERENCE.topk(NARROW, dim=1).indices
    for row in rows(coverage="narrow"):
        x, chosen, rejected = index(row)
        assert {chosen, rejected} <= set(top[x].tolist())


def test_lucky_style_is_rare_and_always_wins() -> None:
    table = rows(1000, coverage="lucky")
    styles = lucky_style(GAME, REFERENCE)
    lucky = [row for row in table if row["meta"]["lucky"]]
    assert len(lucky) == 20
    for row in table:
        x, chosen, rejected = index(row)
        assert ANSWERS[rejected].style != styles[x]
        assert (ANSWERS[chosen].style == styles[x]) == row["meta"]["lucky"]
    for x, style in enumerate(styles):  # luck, not merit: on average the style loses to the others
        own = torch.tensor([answer.style == style for answer in ANSWERS])
        pi, others = REFERENCE[x] * own, REFERENCE[x] * ~own
        assert pi @ GAME.preference[x] @ others / (pi.sum() * others.sum()) < 0.49


def test_the_seed_decides_and_the_file_holds_the_rows(tmp_path: Path) -> None:
    assert rows(200, seed=3) == rows(200, seed=3) != rows(200, seed=4)
    path = write_pairs(tmp_path / "pairs.jsonl", GAME, 200, seed=3, reference=REFERENCE)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == rows(200, seed=3)
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": "wide"}, "coverage must be one of"),
        ({"noise": 0.6}, "noise must lie"),
        ({"n": 0}, "n must be at least 1"),
        ({"reference": REFERENCE[:5]}, "shape"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows(**options)
