"""The rule of reward_augmented_goals on evidence made to break it, and the levels that it relabels by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from equipoise.claims.rewards.reward_augmented import LEVELS, Found, judge, levels_of


def found() -> Found:
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    levels = np.arange(LEVELS) - 1.0 + noise[:, None]
    forgot = np.stack([noise - 1, noise + np.linspace(0, 0.1, 12)], axis=1)
    return Found(plain=noise + np.linspace(1, 1.2, 12), best=levels[:, -1], levels=levels, forgot=forgot)


def test_every_condition_can_break_the_claim():
    good = found()
    assert judge(good).verdict == "holds"
    assert judge(replace(good, plain=good.best + np.linspace(0, 0.1, 12))).verdict == "fails"
    assert judge(replace(good, levels=good.levels[:, ::-1])).verdict == "mixed"
    assert judge(replace(good, forgot=good.forgot[:, ::-1])).verdict == "mixed"


def test_levels_are_parts_of_equal_size_of_the_scores_in_the_data():
    score = torch.arange(8.0, dtype=torch.float64)[None]
    drawn = torch.tensor([[[0, 1], [2, 3], [4, 5], [6, 7]]])
    assert levels_of(score, drawn).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
