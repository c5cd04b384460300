"""The rules of the claims on images, on figures made to meet and to break them."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.claims.images import dragon, pairs, seppo, subject_rpo


def of(ink: float, confidence: float) -> dict[str, np.ndarray]:
    return {"ink": np.full(5, ink), "confidence": np.full(5, confidence)}


@pytest.mark.parametrize(
    ("plain", "sft", "expected"),
    [
        ((0.40, 0.84), 0.32, "holds"),
        ((0.40, 0.70), 0.32, "mixed"),
        ((0.40, 0.84), 0.37, "mixed"),
        ((0.35, 0.84), 0.31, "fails"),
    ],
)
def test_diffusion_dpo_s_rule(plain, sft, expected):
    arms = {"start": of(0.31, 0.86), pairs.PLAIN: of(*plain), pairs.IMITATED: of(sft, 0.86)}
    assert pairs.judge_plain(arms, "quick").verdict == expected


@pytest.mark.parametrize(
    ("inverted", "expected"),
    [((0.40, 0.84), "holds"), ((0.36, 0.85), "mixed"), ((0.40, 0.80), "mixed"), ((0.32, 0.85), "fails")],
)
def test_inpo_s_rule(inverted, expected):
    arms = {"start": of(0.31, 0.86), pairs.PLAIN: of(0.39, 0.84), pairs.INVERTED: of(*inverted)}
    assert pairs.judge_inverted(arms, "quick").verdict == expected


@pytest.mark.parametrize(
    ("perceived", "expected"), [((0.40, 0.84), "holds"), ((0.40, 0.74), "mixed"), ((0.35, 0.84), "fails")]
)
def test_ncp_s_rule(perceived, expected):
    arms = {"start": of(0.31, 0.86), pairs.PLAIN: of(0.39, 0.84), pairs.PERCEIVED: of(*perceived)}
    assert pairs.judge_perceived(arms, "quick").verdict == expected


@pytest.mark.parametrize(
    ("flip", "none", "expected"),
    [
        ((0.33, 0.86), (0.36, 0.84), "holds"),
        ((0.33, 0.86), (0.34, 0.84), "mixed"),
        ((0.33, 0.84), (0.36, 0.86), "fails"),
    ],
)
def test_seppo_s_rule(flip, none, expected):
    arms = {seppo.FLIP: of(*flip), seppo.NONE: of(*none)}
    assert seppo.judge(arms, 0.348, "quick").verdict == expected


@pytest.mark.parametrize(
    ("course", "expected"),
    [((0.65, 0.8, 0.75), "holds"), ((0.65, 0.75, 0.8), "mixed"), ((0.65, 0.68, 0.66), "fails")],
)
def test_subject_rpo_s_rule(course, expected):
    assert subject_rpo.judge(np.tile(course, (5, 1))).verdict == expected


@pytest.mark.parametrize(
    ("sets", "single", "expected"),
    [(2.7, 3.0, "holds"), (3.0, 2.7, "mixed"), (2.7, 3.8, "mixed"), (3.8, 2.7, "fails")],
)
def test_dragon_s_rule(sets, single, expected):
    ends = {dragon.SETS: sets, dragon.SINGLE: single, dragon.RANDOM: 4.1, "start": 4.1}
    arms = {name: {"frechet": np.full(5, value)} for name, value in ends.items()}
    assert dragon.judge(arms, "quick").verdict == expected


@pytest.mark.nightly
@pytest.mark.parametrize(
    "module", [dragon.DRAGON_SETS, seppo.SEPPO_ANCHOR, subject_rpo.EARLY_STOPPING, pairs.NCP_DPO]
)
def test_the_programs_run_and_repeat(module):
    assert module.run("quick").as_json() == module.run("quick").as_json()
