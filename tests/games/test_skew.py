"""Bradley-Terry and general preference models: what each can express, and fits against closed forms."""

from __future__ import annotations

import itertools
from math import log, pi, sin, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.core.links import bradley_terry, general_preference, skew_score
from equipoise.games import NotConverged, PreferenceGame, zoo
from equipoise.games.closed_form import gpo_step
from equipoise.games.offline import from_pairs
from equipoise.games.skew import fit_bradley_terry, fit_general_preference, schur_embedding

ANGLES = torch.arange(3, dtype=torch.float64) * 2 * pi / 3
TRIANGLE = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)


def scores(v: torch.Tensor) -> torch.Tensor:
    return skew_score(v.unsqueeze(1), v.unsqueeze(0))


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


def likelihood(prob: torch.Tensor, wins: torch.Tensor) -> float:
    off = ~torch.eye(len(wins), dtype=torch.bool)
    return float((wins * prob.log())[off].sum() / wins[off].sum())


# --- facts of the score


@settings(deadline=None, max_examples=25)
@given(size=st.integers(2, 6), planes=st.integers(1, 3), seed=st.integers(0, 999), kind=st.booleans())
def test_a_score_is_antisymmetric_and_ties_with_itself(size, planes, seed, kind):
    v = normal(seed, size, 2 * planes)
    lambdas = normal(seed + 1, planes).abs() if kind else None
    s = skew_score(v.unsqueeze(1), v.unsqueeze(0), lambdas)
    assert torch.equal(s.diagonal(), torch.zeros(size, dtype=torch.float64))
    assert (s + s.mT).abs().max() < 1e-14
    p = general_preference(v.unsqueeze(1), v.unsqueeze(0), lambdas, temperature=0.3)
    assert (p + p.mT - 1).abs().max() < 1e-15


def test_a_plane_with_a_constant_coordinate_is_bradley_terry_of_that_scale():
    r, c = normal(1, 5), 0.7
    v = torch.stack([r, torch.full_like(r, c)], dim=1)
    assert torch.allclose(scores(v), c * (r.unsqueeze(1) - r.unsqueeze(0)), atol=1e-15)
    expected = bradley_terry(c * r.unsqueeze(1) / 0.1, c * r.unsqueeze(0) / 0.1)
    assert torch.allclose(
        general_preference(v.unsqueeze(1), v.unsqueeze(0), temperature=0.1), expected, atol=1e-14
    )


def test_three_vectors_are_a_perfect_cycle():
    s = scores(TRIANGLE)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        assert s[a, b].item() == pytest.approx(sin(2 * pi / 3)) == pytest.approx(sqrt(3) / 2)
    # whatever the rewards, at least one of the three edges goes the wrong way
    rewards = itertools.permutations([0.0, 1.0, 2.0])
    right = [sum(r[a] > r[b] for a, b in ((0, 1), (1, 2), (2, 0))) for r in rewards]
    assert max(right) == 2 and min(right) == 1


def test_bradley_terry_is_at_chance_on_the_cycle_and_one_plane_is_not():
    prob = torch.sigmoid(scores(TRIANGLE))
    assert (fit_bradley_terry(prob.unsqueeze(0)).prob() - 0.5).abs().max() < 1e-9
    assert (fit_general_preference(prob, 1).prob() - prob).abs().max() < 1e-6


@settings(deadline=None, max_examples=25)
@given(size=st.integers(2, 9), planes=st.integers(0, 3), seed=st.integers(0, 999))
def test_every_antisymmetric_matrix_of_rank_2k_has_k_planes(size, planes, seed):
    planes = min(planes, size // 2)
    table = scores(normal(seed, size, 2 * planes)) if planes else torch.zeros(size, size, dtype=torch.float64)
    v, strength = schur_embedding(table)
    assert len(strength) == planes and v.shape == (size, 2 * planes)
    assert (scores(v) - table).abs().max() < 1e-12
    spectrum = torch.linalg.eigvals(table).imag.sort(descending=True).values[:planes]
    assert torch.allclose(strength, spectrum, atol=1e-12)


def test_repeated_strengths_and_truncation():
    blocks = torch.block_diag(
        *[torch.tensor([[0.0, w], [-w, 0.0]], dtype=torch.float64) for w in (2.0, 2.0, 0.5)]
    )
    turn = torch.linalg.qr(normal(5, 7, 7)).Q[:, :6]
    table = turn @ blocks @ turn.mT
    v, strength = schur_embedding(table)
    assert strength.tolist() == pytest.approx([2, 2, 0.5]) and (scores(v) - table).abs().max() < 1e-12
    # the rest of the best approximation: sqrt(2) times the strengths that were dropped
    left = scores(schur_embedding(table, planes=2)[0]) - table
    assert torch.linalg.norm(left).item() == pytest.approx(sqrt(2) * 0.5)


@pytest.mark.parametrize("bad", [[[0.0, 1.0], [1.0, 0.0]], [[0.0, float("inf")], [-float("inf"), 0.0]]])
def test_no_embedding(bad):
    with pytest.raises(ValueError, match="finite, antisymmetric"):
        schur_embedding(torch.tensor(bad))


# --- GPO: pi_next ~ pi exp(eta E_{y' ~ pi} s(y, y'))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999))
def test_nobody_beats_oneself_on_average(seed):
    s = scores(normal(seed, 5, 4))
    policy = normal(seed + 1, 5).softmax(dim=0)
    assert float(policy @ s @ policy) == pytest.approx(0, abs=1e-14)


def test_with_a_reward_the_step_tilts_by_the_reward():
    """t steps from the reference give ref exp(t eta r): what the opponent does only shifts the score."""
    reward, eta = normal(2, 4), 0.6
    game = zoo.bradley_terry(reward, normal(3, 4).softmax(dim=0))
    policy = game.initial()
    for _ in range(3):
        policy = gpo_step(game, policy, eta=eta)
    expected = (game.reference.log() + 3 * eta * reward).softmax(dim=1)
    assert torch.allclose(policy.probs(), expected, atol=1e-14)


def test_one_step_on_the_biased_cycle_from_fitted_planes():
    """The fitted planes stand in for logit P."""
    game = zoo.brps()
    fitted = PreferenceGame(fit_general_preference(game.preference[0], 1).prob(), game.reference)
    step = gpo_step(fitted, fitted.initial(), eta=1.0).probs()[0].tolist()
    assert step == pytest.approx([0.842562, 0.041660, 0.115778], abs=1e-6)


# --- Bradley-Terry by maximum likelihood


def test_two_responses_have_the_logit_of_their_share():
    wins = torch.tensor([[[0.0, 3.0], [1.0, 0.0]]])
    strength = fit_bradley_terry(wins).strength[0]
    assert strength.tolist() == pytest.approx([log(3) / 2, -log(3) / 2])


def test_rewards_come_back():
    rewards = torch.stack([normal(1, 6), normal(2, 6)])
    fitted = fit_bradley_terry(zoo.bradley_terry(rewards).preference)
    assert torch.allclose(fitted.strength, rewards - rewards.mean(dim=1, keepdim=True), atol=1e-8)
    assert fitted.finite


def test_expected_wins_equal_counted_wins():
    """The likelihood equations, on counts that no reward explains and not all pairs of which were compared."""
    wins = torch.tensor([[0, 3, 1, 0], [2, 0, 4, 1], [0, 1, 0, 2], [0, 0, 5, 0]], dtype=torch.float64)
    prob = fit_bradley_terry(wins.unsqueeze(0)).prob()[0]
    assert torch.allclose((prob * (wins + wins.mT)).sum(dim=1), wins.sum(dim=1), atol=1e-8)


def test_recorded_pairs_are_counts():
    data = from_pairs([(0, 0, 1, 60), (0, 1, 0, 40), (0, 1, 2, 3), (0, 2, 1, 1)], 1, 3)
    strength = fit_bradley_terry(data.counts).strength[0]
    assert (strength[0] - strength[1]).item() == pytest.approx(log(60 / 40))
    assert (strength[1] - strength[2]).item() == pytest.approx(log(3))


def test_one_sided_labels_make_levels():
    """a beats b and c whatever happens, b and c meet 3 : 1: the supremum of the likelihood, not a large number."""
    wins = torch.tensor([[[0, 2, 2], [0, 0, 3], [0, 1, 0]]], dtype=torch.float64)
    fitted = fit_bradley_terry(wins)
    assert not fitted.finite and fitted.level.tolist() == [[1, 0, 0]]
    assert fitted.prob()[0].tolist()[0] == [0.5, 1, 1]
    assert fitted.prob()[0, 1, 2].item() == pytest.approx(0.75)
    order = fit_bradley_terry(torch.triu(torch.ones(1, 4, 4, dtype=torch.float64), diagonal=1))
    assert order.level.tolist() == [[3, 2, 1, 0]] and order.strength.abs().max() == 0


@pytest.mark.parametrize(
    ("wins", "message"),
    [
        ([[0, 1, 1], [0, 0, 0], [0, 0, 0]], "no chain of wins connects responses 1 and 2"),
        ([[0, -1], [1, 0]], "finite weights >= 0"),
        ([[1, 0], [0, 1]], "at least one win"),
    ],
)
def test_what_nothing_ranks_is_refused(wins, message):
    with pytest.raises(ValueError, match=message):
        fit_bradley_terry(torch.tensor([wins], dtype=torch.float64))


# --- general preference models by maximum likelihood


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_enough_planes_meet_every_probability(temperature):
    prob = torch.sigmoid(scores(normal(7, 6, 4)))
    for planes in (2, 3):
        fitted = fit_general_preference(prob, planes, temperature=temperature)
        assert (fitted.prob() - prob).abs().max() < 1e-4
        assert fitted.embedding.shape == (6, 2 * planes)


def test_more_planes_are_more_likely_and_one_is_not_less_than_bradley_terry():
    wins = zoo.random(6, 4).preference[0]
    levels = [likelihood(fit_bradley_terry(wins.unsqueeze(0)).prob()[0], wins)]
    levels += [likelihood(fit_general_preference(wins, k).prob(), wins) for k in (1, 2, 3)]
    assert levels == sorted(levels) and levels[1] > levels[0] + 1e-3
    assert levels[3] == pytest.approx(likelihood(wins, wins), abs=1e-9)  # three planes hold any game of six


def test_labels_of_a_reward_need_no_second_coordinate():
    """On Bradley-Terry data the two models have the same likelihood and the same probabilities."""
    wins = zoo.bradley_terry(normal(9, 5)).preference
    assert torch.allclose(
        fit_general_preference(wins[0], 1).prob(), fit_bradley_terry(wins).prob()[0], atol=1e-6
    )


def test_pairs_that_were_not_compared_do_not_count():
    wins = torch.tensor([[0, 3, 0], [1, 0, 5], [0, 2, 0]], dtype=torch.float64)  # 0 and 2 never met
    prob = fit_general_preference(wins, 1).prob()
    assert prob[0, 1].item() == pytest.approx(3 / 4, abs=1e-5)
    assert prob[1, 2].item() == pytest.approx(5 / 7, abs=1e-5)


def test_a_ridge_keeps_certain_labels_finite():
    wins = zoo.rps().preference[0]
    errors = []
    for ridge in (1e-3, 1e-5):
        fitted = fit_general_preference(wins, 1, ridge=ridge)
        assert fitted.embedding.abs().max() < 20
        errors.append(float((fitted.prob() - wins).abs().max()))
    assert errors[1] < errors[0] < 0.01


def test_impossible_requests_are_refused(monkeypatch):
    wins = zoo.brps().preference[0]
    with pytest.raises(ValueError, match="planes must be at least 1"):
        fit_general_preference(wins, 0)
    with pytest.raises(ValueError, match="temperature"):
        fit_general_preference(wins, 1, temperature=0.0)
    with pytest.raises(NotConverged, match="set ridge > 0"):
        fit_general_preference(zoo.random(6, 4).preference[0], 1, tolerance=1e-30)
