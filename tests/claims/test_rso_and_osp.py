"""The rules of rso_accepted and osp_strengths on evidence made to break them, and what they are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import osp, rso
from equipoise.claims.rewards.osp import DRAWN, LOUD, SMOOTHED, STRENGTHS, WINNERS, Course
from equipoise.claims.rewards.rso import BEST, COUNTS, FEW, FIRST, RSO, SMALL, Laws, Trained
from equipoise.games import zoo

AT = [1, 10]


def courses(**error):
    noise = np.random.default_rng(0).normal(0, 0.001, (20, 2))
    last = {STRENGTHS: 0.0, WINNERS: 0.3, DRAWN: 0.4, SMOOTHED: 0.2, LOUD: 0.1} | error
    last |= {osp.SHARES: 0.1, osp.MAJORITY: 0.2, osp.VOTE: 0.3}
    return {
        name: Course(error=abs(noise) + value, lost=abs(noise) + 2 * value) for name, value in last.items()
    }


def test_strengths_hold_where_votes_cost_less_as_shares_and_exact_ones_are_recovered():
    made = courses()
    assert osp.judge(made, AT).verdict == "holds"
    for name in (osp.MAJORITY, osp.VOTE):
        assert osp.judge(made | {name: made[osp.SHARES]}, AT).verdict == "fails"
    early = np.stack(
        [np.full(20, 0.1), made[osp.MAJORITY].lost[:, 1]], axis=1
    )  # as good where it stops in time
    assert osp.judge(made | {osp.MAJORITY: replace(made[osp.MAJORITY], lost=early)}, AT).verdict == "mixed"
    assert osp.judge(courses(**{STRENGTHS: 0.02}), AT).verdict == "mixed"
    assert osp.judge(courses(**{WINNERS: 0.05}), AT).verdict == "mixed"


def test_a_noisy_judge_votes_by_its_own_probabilities():
    made = osp.noisy(np.full(4000, 0.8))
    assert set(np.unique(made[osp.SHARES])) <= {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}
    assert ((made[osp.SHARES] > 0.5) == (made[osp.MAJORITY] == 1)).all()
    own = np.mean(1 / (1 + np.exp(-np.log(4) - osp.NOISE * np.random.default_rng(0).normal(size=100_000))))
    assert made[osp.SHARES].mean() == pytest.approx(own, abs=0.015)
    assert made[osp.VOTE].mean() == pytest.approx(own, abs=0.025)


def test_labels_are_those_of_neighbours_in_the_ranking():
    rewards = torch.tensor([[0.0, 2.0, 1.0]], dtype=torch.float64)
    made = osp.labels(zoo.bradley_terry(rewards))
    for rows in made.values():
        assert rows.responses.tolist() == [[1, 2], [2, 0]]
    one = 1 / (1 + np.exp(-1))
    assert made[STRENGTHS].prob.tolist() == pytest.approx([one, one])
    assert made[WINNERS].prob.tolist() == [1.0, 1.0]
    assert made[SMOOTHED].prob.tolist() == pytest.approx([0.9, 0.9])
    assert made[LOUD].prob.tolist() == pytest.approx([1 / (1 + np.exp(-2))] * 2)
    assert set(made[DRAWN].prob.tolist()) <= {0.0, 1.0}


def test_calibration_and_shortfall_vanish_at_the_optimal_policy_only():
    rewards = torch.tensor([[0.0, 2.0, 1.0]], dtype=torch.float64)
    game = zoo.bradley_terry(rewards)
    reference = game.initial().log_probs()
    best = (reference + rewards / osp.BETA).log_softmax(dim=1)
    assert float(osp.miscalibration(game, best - reference)) < 1e-15
    assert float(osp.shortfall(rewards, best, reference)) == pytest.approx(0, abs=1e-15)
    assert float(osp.miscalibration(game, reference - reference)) == pytest.approx(
        float((game.preference - 0.5).abs().sum()) / 6
    )
    assert float(osp.shortfall(rewards, reference, reference)) > 0.1


def laws(first=1.0, own=0.05):
    table = np.full((4, len(COUNTS)), 0.3)
    return Laws(
        first={RSO: np.full_like(table, 0.01 * first), BEST: table, FIRST: table},
        all={RSO: np.full_like(table, own), BEST: table, FIRST: table},
        noise=np.full(4, 0.01),
    )


def models(**win):
    noise = np.random.default_rng(0).normal(0, 0.001, 20)
    last = {RSO: 0.7, BEST: 0.6, FIRST: 0.6} | win
    one = {rule: Trained(win=noise * (1 + k) + v, value=noise) for k, (rule, v) in enumerate(last.items())}
    return {SMALL: one, FEW: one}


def test_accepted_holds_only_if_the_law_is_right_and_its_pairs_teach_more():
    assert rso.judge(laws(), models()).verdict == "holds"
    assert rso.judge(laws(first=2.1), models()).verdict == "fails"
    assert rso.judge(laws(own=0.31), models()).verdict == "fails"
    assert rso.judge(laws(), models(**{FIRST: 0.71})).verdict == "mixed"
    assert rso.judge(laws(), models(**{BEST: 0.71})).verdict == "mixed"


def test_the_law_of_the_best_of_several_is_that_of_its_draws():
    rng = np.random.default_rng(0)
    reference = torch.as_tensor(rng.normal(size=(1, 5))).log_softmax(dim=1)
    rewards = torch.as_tensor(rng.normal(size=(1, 5)))
    found = rso.pair_laws(reference, rewards)
    drawn = rng.choice(5, size=(50_000, 8), p=reference.exp()[0].numpy())
    best = np.take_along_axis(drawn, rewards[0].numpy()[drawn].argmax(axis=1)[:, None], axis=1)[:, 0]
    share = np.bincount(best, minlength=5) / 50_000
    law = found[BEST][0].numpy()
    assert (abs(share - law) <= 4.5 * np.sqrt(law * (1 - law) / 50_000) + 1e-12).all()
    for probs in found.values():
        assert float(probs.sum()) == pytest.approx(1, abs=1e-12)


def test_the_noise_of_a_sample_is_what_samples_of_the_target_show():
    law, rng = np.array([0.6, 0.3, 0.1]), np.random.default_rng(0)
    shares = rng.multinomial(2000, law, size=4000) / 2000
    shown = abs(shares - law).sum(axis=1).mean() / 2
    assert rso.noise(law, 2000) == pytest.approx(shown, rel=0.03)
