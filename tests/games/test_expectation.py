"""Exact expectations and minimisers: core objectives against closed forms and sampled data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.core import reduce
from equipoise.core.objectives import Cdpo, Dpo, Inpo, Ipo, Spac
from equipoise.games import (
    Comparisons,
    NotConverged,
    TabularPolicy,
    enumerate_data,
    enumerate_pairs,
    minimise,
    offline,
    pairs,
    scores,
    triples,
    zoo,
)
from equipoise.games import closed_form as step
from equipoise.games.expectation import loss

DOUBLE = torch.float64


def inpo_setting(game, eta=0.5, tau=0.1):
    """An INPO round away from the reference: objective, anchors, sampler and the closed-form answer."""
    previous = step.inpo_step(game, game.initial(), eta=eta, tau=tau)
    anchors = {"reference": game.initial().log_probs(), "previous": previous.log_probs()}
    return Inpo(eta=eta, tau=tau), anchors, previous, step.inpo_step(game, previous, eta=eta, tau=tau)


def test_pairs_carry_every_response_with_its_probability():
    game = zoo.prompts(3, 3)
    found, weight = pairs(game, game.initial().log_probs(), {}, game.reference)
    assert len(found) == 3 * 9 and weight.sum().item() == pytest.approx(1)
    mean_win = reduce.mean(found.prob, weight).item()
    assert mean_win == pytest.approx(0.5)  # P(pi > pi)
    other, weight = pairs(
        game, game.initial().log_probs(), {}, TabularPolicy(torch.zeros(3, 3)).probs(), game.reference
    )
    value = game.mean(game.value(TabularPolicy(torch.zeros(3, 3)), game.initial()))
    assert reduce.mean(other.prob, weight).item() == pytest.approx(value)


def test_responses_of_probability_zero_are_left_out():
    rows = enumerate_pairs(zoo.rps(), torch.tensor([[0.5, 0.5, 0.0]], dtype=DOUBLE))
    assert len(rows.weight) == 4 and int(rows.responses.max()) == 1


def test_scores_carry_a_gradient_only_for_the_policy():
    logits = torch.zeros(1, 3, dtype=DOUBLE, requires_grad=True)
    rows = enumerate_pairs(zoo.rps(), torch.full((1, 3), 1 / 3, dtype=DOUBLE))
    found = scores(logits.log_softmax(1), {"previous": logits.log_softmax(1)}, rows.prompts, rows.responses)
    assert found.logp.requires_grad and not found.anchors["previous"].requires_grad


def test_triples_multiply_data_and_own_responses():
    data = offline.from_pairs([(0, 0, 1, 3), (0, 1, 2, 1)], 1, 3)
    own = torch.tensor([[0.2, 0.3, 0.5]], dtype=DOUBLE)
    found, weight = triples(own.log(), {}, data.share, own)
    assert found.logp.shape == (6, 3) and weight.sum().item() == pytest.approx(1)
    assert weight.tolist() == pytest.approx([0.15, 0.225, 0.375, 0.05, 0.075, 0.125])


@pytest.mark.parametrize("name", ["rps", "brps", "random:6", "prompts:4:3"])
def test_gradient_of_inpo_vanishes_at_its_closed_form(name):
    """The label trick: a constant target on labelled pairs from pi_t is a regression on win rates."""
    game = zoo.parse(name)
    objective, anchors, previous, answer = inpo_setting(game)
    rows = enumerate_pairs(game, previous.probs())
    logits = answer.logits.clone().requires_grad_(True)
    value = loss(objective, logits.log_softmax(dim=1), anchors, rows)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-10
    logits = previous.logits.clone().requires_grad_(True)
    (elsewhere,) = torch.autograd.grad(loss(objective, logits.log_softmax(dim=1), anchors, rows), logits)
    assert elsewhere.abs().max() > 1e-3


def test_the_label_trick_needs_both_responses_from_one_law():
    game = zoo.brps()
    objective, anchors, previous, answer = inpo_setting(game)
    rows = enumerate_pairs(game, previous.probs(), game.reference)
    logits = answer.logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(objective, logits.log_softmax(dim=1), anchors, rows), logits)
    assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("size", [2, 5, 10, 30])
def test_minimising_inpo_is_the_closed_form(size):
    game = zoo.random(size, seed=size)
    objective, anchors, previous, answer = inpo_setting(game, eta=0.3)
    fitted = minimise(
        objective, *enumerate_pairs(game, previous.probs()), start=previous.logits, anchors=anchors
    )
    assert (fitted - answer.log_probs()).abs().max() < 1e-9


def test_minimising_finds_responses_that_are_almost_never_sampled():
    game = zoo.random(6, 4)
    sampler = TabularPolicy(torch.tensor([[0.0, -2, -5, -9, -14, -20]], dtype=DOUBLE))
    anchors = {"reference": game.initial().log_probs(), "previous": sampler.log_probs()}
    rows = enumerate_pairs(game, sampler.probs())
    fitted = minimise(Inpo(eta=0.3, tau=0.1), *rows, start=game.reference.log(), anchors=anchors)
    answer = step.inpo_step(game, sampler, eta=0.3, tau=0.1)
    assert (fitted - answer.log_probs()).abs().max() < 1e-7


def test_minimising_treats_prompts_apart():
    game = zoo.prompts(4, 3)
    objective, anchors, previous, answer = inpo_setting(game)
    rows = enumerate_pairs(game, previous.probs())
    fitted = minimise(objective, *rows, start=previous.logits, anchors=anchors)
    assert (fitted - answer.log_probs()).abs().max() < 1e-9
    kept = rows.prompts != 2
    part = Comparisons(*(None if column is None else column[kept] for column in rows))
    fitted = minimise(objective, *part, start=previous.logits, anchors=anchors)
    assert torch.allclose(fitted[2], previous.log_probs()[2])  # no rows, no movement
    assert (fitted - answer.log_probs())[[0, 1, 3]].abs().max() < 1e-9


def test_dpo_recovers_the_reward_behind_bradley_terry_labels():
    reward = torch.tensor([[0.0, 0.7, -1.1, 2.0]], dtype=DOUBLE)
    game = zoo.bradley_terry(reward, [0.1, 0.2, 0.3, 0.4])
    anchors = {"reference": game.reference.log()}
    for data in (
        enumerate_pairs(game, game.reference),
        enumerate_data(offline.population(game, game.initial()).share),
    ):
        fitted = minimise(Dpo(beta=0.3), *data, start=torch.zeros(1, 4), anchors=anchors)
        assert (fitted - step.dpo_optimum(game.initial(), reward, 0.3).log_probs()).abs().max() < 1e-9


def test_ipo_is_the_best_response_to_the_data():
    game = zoo.random(5, 1)
    mu = TabularPolicy(torch.tensor([[0.3, -0.2, 0.9, 0.0, -1.0]], dtype=DOUBLE))
    rows = enumerate_pairs(game, mu.probs())
    fitted = minimise(
        Ipo(tau=0.1), *rows, start=game.reference.log(), anchors={"reference": game.reference.log()}
    )
    assert (fitted - step.ipo_optimum(game, mu, 0.1).log_probs()).abs().max() < 1e-9


def test_three_candidates_and_a_flat_direction():
    game = zoo.random(8, 2)
    pi = game.initial()
    data = offline.from_pairs([(0, 0, 1, 2), (0, 1, 0, 1), (0, 1, 2, 1), (0, 2, 1, 1)], 1, 8)
    anchors = {"previous": pi.log_probs()}
    start = pi.logits
    fitted = minimise(Dpo(beta=0.5), *enumerate_data(data.share), start=start, anchors={"reference": start})
    unseen = fitted[0, 3:] - fitted[0, 3]
    assert torch.allclose(unseen, start[0, 3:] - start[0, 3], atol=1e-12)
    rows = enumerate_data(data.share, pi.probs())
    objective = Spac(b=1.0, w_pref=1.0, w_pess=0.5)
    fitted = minimise(objective, *rows, start=start, anchors=anchors)
    logits = fitted.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(objective, logits.log_softmax(dim=1), anchors, rows), logits)
    assert gradient.abs().max() < 1e-10
    nudged = fitted + 0.01 * torch.randn(1, 8, dtype=DOUBLE)
    value = loss(objective, fitted, anchors, rows)
    assert value < loss(objective, nudged.log_softmax(dim=1), anchors, rows)


def test_exact_expectation_is_the_limit_of_samples():
    game = zoo.brps()
    objective, anchors, previous, _ = inpo_setting(game)
    policy = TabularPolicy.from_probs([0.2, 0.5, 0.3])
    exact = loss(objective, policy.log_probs(), anchors, enumerate_pairs(game, previous.probs())).item()
    rng = np.random.default_rng(0)
    responses = torch.from_numpy(rng.choice(3, size=(200_000, 2), p=previous.probs()[0].numpy()))
    chance = game.preference[0, responses[:, 0], responses[:, 1]]
    flip = torch.from_numpy(rng.uniform(size=len(responses))) > chance
    labelled = torch.where(flip.unsqueeze(1), responses.flip(1), responses)
    drawn = objective(
        scores(policy.log_probs(), anchors, torch.zeros(len(labelled), dtype=torch.long), labelled)
    ).value
    assert drawn.mean().item() == pytest.approx(exact, abs=5 * drawn.std().item() / len(drawn) ** 0.5)


def test_a_minimum_at_infinity_is_followed_until_the_gradient_fades():
    data = offline.from_pairs([(0, 0, 1, 1)], 1, 2)  # certain labels: the margin wants to be infinite
    start = torch.zeros(1, 2, dtype=DOUBLE)
    rows = enumerate_data(data.share)
    fitted = minimise(Dpo(beta=1.0), *rows, start=start, anchors={"reference": start.log_softmax(1)})
    margin = float(fitted[0, 0] - fitted[0, 1])
    assert 1 / (1 + np.exp(margin)) < 1e-10 and margin < 40


def test_a_loss_without_a_lower_bound_is_reported():
    data = offline.from_pairs([(0, 0, 1, 1), (0, 1, 0, 1)], 1, 3)
    start = torch.zeros(1, 3, dtype=DOUBLE)
    rows = enumerate_data(data.share, start.softmax(dim=1))
    linear = Spac(b=1.0, w_pref=1.0, w_pess=1.0, mode="linear", clip=float("inf"))
    with pytest.raises(NotConverged, match="Spac: no smooth minimum") as caught:
        minimise(linear, *rows, start=start, anchors={"previous": start.log_softmax(1)}, steps=30)
    assert caught.value.residual > 0.1 and caught.value.best.shape == (1, 3)


def test_a_start_without_a_gradient_is_refused():
    start = torch.tensor([[0.0, -float("inf")]], dtype=DOUBLE)
    rows = enumerate_data(offline.from_pairs([(0, 0, 1, 1)], 1, 2).share)
    with pytest.raises(ValueError, match="finite logits"):
        minimise(Cdpo(), *rows, start=start, anchors={"reference": start})
