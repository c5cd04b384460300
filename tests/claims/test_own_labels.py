"""The rules of spa_few_labels, cream_noise and upo_noisy_labels on evidence made to break them, and their labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import own_labels
from equipoise.claims.rewards.label_flips import draw
from equipoise.claims.rewards.own_labels import (
    CONSISTENT,
    EVERY,
    HARD,
    PLAIN,
    REFINED,
    SEED,
    TRUSTING,
    WEIGHED,
)
from equipoise.play.pairings.self_labelled import ImplicitRewardLabels
from equipoise.play.rows import Rows

NOISE = np.random.default_rng(0).normal(0, 0.01, 20)


def test_spa_holds_above_its_seed_and_above_plain_own_labels():
    def told(**values):
        means = {SEED: 1.0, PLAIN: 1.1, REFINED: 1.2, EVERY: 1.5} | values
        return own_labels.judge_spa({name: NOISE + mean for name, mean in means.items()}, NOISE).verdict

    assert told() == "holds"
    assert told(**{PLAIN: 1.3}) == "mixed"
    assert told(**{SEED: 1.2}) == "fails"


def test_cream_holds_above_self_rewarding_and_above_fine_tuning():
    def told(trusting, consistent, tuned=1.0):
        course = {
            name: np.stack([NOISE, NOISE + tuned, NOISE + last], axis=1)
            for name, last in ((TRUSTING, trusting), (CONSISTENT, consistent))
        }
        return own_labels.judge_cream(course).verdict

    assert told(1.1, 1.2) == "holds"
    assert told(0.8, 0.9) == "mixed"
    assert told(1.2, 1.2) == "fails"


def test_upo_holds_above_hard_labels():
    assert own_labels.judge_upo({HARD: NOISE, WEIGHED: NOISE + 0.1}, NOISE).verdict == "holds"
    assert own_labels.judge_upo({HARD: NOISE, WEIGHED: NOISE}, NOISE).verdict == "fails"


def test_own_labels_are_those_of_the_implicit_reward_copy_by_copy():
    world = draw(2)
    first = world.reference
    last = (
        first + torch.randn(first.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).log_softmax(1)
    rows = own_labels.written(
        world, last, 2, np.random.default_rng(0).random((len(last) * own_labels.REPEATS, 2))
    )
    found = own_labels.own_labels(world, ImplicitRewardLabels(), 2, [first, last], rows)
    reward = (last - first)[found.prompts[:, None], found.responses]
    assert bool((reward[:, 0] > reward[:, 1]).all()) and len(found.prompts) > len(last)
    consistent = ImplicitRewardLabels(seeded=False, consistency="corpus")
    labels = own_labels.own_labels(world, consistent, 2, [first, first, last], rows)
    copies = labels.prompts < len(last) // 2
    assert len(set(labels.prob[copies].tolist())) == len(set(labels.prob[~copies].tolist())) == 1


def test_halves_are_weighed_by_how_far_the_passes_agree():
    score = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    passes = torch.stack([score, torch.tensor([[3.0, 0.0, 1.0, 2.0]])]).double()
    rows = Rows(
        prompts=np.array([0]), responses=np.array([[3, 1, 0, 2]]), weight=np.ones(1), writers=("start",) * 4
    )
    found = own_labels.halves(passes, score, rows)
    assert found.responses.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert found.weight[0] == pytest.approx(1.0) and found.weight[3] < found.weight[1] < 1
    assert found.prob.tolist() == pytest.approx(((1 + found.weight) / 2).tolist())
