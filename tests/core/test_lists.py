"""Losses of ranked lists: likelihoods by hand, ties, lambda weights, and DPO where a list is a pair."""

from __future__ import annotations

from itertools import permutations
from math import exp, log

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Dpo, PlackettLuce, Tpo
from equipoise.core.objectives.lists import beaten, concordance, lambda_weights, ranks
from equipoise.core.scores import TokenScores

DOUBLE = torch.float64
EACH = [
    PlackettLuce(beta=0.5),
    Tpo(beta=0.5),
    Tpo(beta=0.5, lambdas="ones"),
    Tpo(beta=0.5, gain="exponential"),
]
each_loss = pytest.mark.parametrize("objective", EACH, ids=["plackett_luce", "tpo", "ones", "exponential"])


def listed(ratios: list[float], rewards: list[float]) -> Scores:
    logp = torch.tensor([ratios], dtype=DOUBLE, requires_grad=True)
    return Scores(
        logp=logp,
        anchors={"reference": torch.zeros_like(logp).detach()},
        reward=torch.tensor([rewards], dtype=DOUBLE),
    )


def random_list(count: int, seed: int = 0) -> tuple[list[float], list[float]]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, generator=draw, dtype=DOUBLE).tolist() for _ in range(2))


# Plackett-Luce ------------------------------------------------------------------------------------------


def test_plackett_luce_is_the_likelihood_of_the_ranking():
    """h = (1, 2, 3), R = (3, 1, 2): e^1/(e^1 + e^2 + e^3) times e^3/(e^3 + e^2)."""
    want = -log(exp(1) / (exp(1) + exp(2) + exp(3))) - log(exp(3) / (exp(3) + exp(2)))
    assert PlackettLuce(beta=1.0)(listed([1, 2, 3], [3, 1, 2])).value.item() == pytest.approx(want, rel=1e-15)


def test_the_likelihoods_of_all_rankings_sum_to_one():
    ratios, _ = random_list(4)
    total = sum(
        exp(-PlackettLuce(beta=0.7)(listed(ratios, list(map(float, order)))).value.item())
        for order in permutations(range(4))
    )
    assert total == pytest.approx(1, abs=1e-14)


def test_tied_responses_do_not_compete():
    """R = (1, 1, 0): each of the two is the first choice against the third alone, as two DPO pairs are."""
    ratios = [0.4, -1.3, 0.2]
    both = PlackettLuce(beta=1.0)(listed(ratios, [1, 1, 0])).value.item()
    pairs = [Dpo(beta=1.0)(listed([ratios[i], ratios[2]], [1, 0])).value.item() for i in (0, 1)]
    assert both == pytest.approx(sum(pairs), rel=1e-15)


def test_only_the_order_of_the_rewards_counts():
    ratios, rewards = random_list(5)
    warped = [exp(3 * r) for r in rewards]
    for objective in (EACH[0], EACH[2]):
        assert objective(listed(ratios, rewards)).value.equal(objective(listed(ratios, warped)).value)


# lambda -------------------------------------------------------------------------------------------------


def test_lambda_by_hand():
    """s = (.2, .5, -.1), R = (3, 1, 2): ranks 2, 1, 3; |R_i - R_j| times |1/log 3 - 1/log 2| and so on."""
    s = torch.tensor([[0.2, 0.5, -0.1]], dtype=DOUBLE)
    reward = torch.tensor([[3.0, 1.0, 2.0]], dtype=DOUBLE)
    assert ranks(s, reward).tolist() == [[2, 1, 3]]
    d = [1 / log(1 + k) for k in (2, 1, 3)]
    want = [
        [abs(a - b) * abs(x - y) for b, y in zip((3, 1, 2), d, strict=True)]
        for a, x in zip((3, 1, 2), d, strict=True)
    ]
    weights = lambda_weights(s, reward, "linear")
    assert torch.allclose(weights[0], torch.tensor(want, dtype=DOUBLE), rtol=1e-15)
    assert weights.equal(weights.mT) and not weights.diagonal(dim1=1, dim2=2).any()
    exponential = lambda_weights(s, reward, "exponential")
    gains = [2.0, 1.0, 2**0.5]
    assert exponential[0, 0, 2].item() == pytest.approx((gains[0] - gains[2]) * abs(d[0] - d[2]), rel=1e-15)
    soft = torch.nn.functional.softplus
    value = sum(weights[0, i, j] * soft(s[0, j] - s[0, i]) for i, j in ((0, 1), (0, 2), (2, 1)))
    assert Tpo(beta=1.0)(listed([0.2, 0.5, -0.1], [3, 1, 2])).value.item() == pytest.approx(
        float(value), rel=1e-15
    )


def test_equal_scores_are_ranked_by_reward_and_full_ties_share_their_rank():
    s = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=DOUBLE)
    assert ranks(s, torch.tensor([[1.0, 2.0, 1.0, 0.0]], dtype=DOUBLE)).tolist() == [[3.5, 2, 3.5, 1]]
    weights = lambda_weights(s, torch.tensor([[1.0, 2.0, 1.0, 0.0]], dtype=DOUBLE), "linear")
    assert weights[0, 0, 2] == 0


def test_the_first_step_has_a_gradient():
    """At the reference all scores tie; the ranking by reward keeps lambda from vanishing there."""
    scores = listed([0.0, 0.0, 0.0], [2, 0, 1])
    (grad,) = torch.autograd.grad(Tpo()(scores).value.sum(), scores.logp)
    assert grad[0, 0] < 0 < grad[0, 1]


def test_lambda_is_a_constant_of_the_step():
    """The gradient is that of the logistic pairs at fixed weights."""
    ratios, rewards = random_list(4)
    scores, beta = listed(ratios, rewards), 0.5
    s, reward = beta * scores.logp, scores.rewards()
    fixed = lambda_weights(s.detach(), reward, "linear")
    pairs = torch.nn.functional.softplus(s[:, None, :] - s[:, :, None])
    (want,) = torch.autograd.grad((fixed * pairs).where(beaten(reward), 0).sum(), scores.logp)
    (got,) = torch.autograd.grad(Tpo(beta=beta)(scores).value.sum(), scores.logp)
    assert torch.allclose(got, want, rtol=1e-14)


# all of them --------------------------------------------------------------------------------------------


@each_loss
def test_all_tied_is_no_loss_and_no_gradient(objective):
    scores = listed([0.3, -1.0, 2.0], [1, 1, 1])
    value = objective(scores).value
    (grad,) = torch.autograd.grad(value.sum(), scores.logp)
    assert value.item() == pytest.approx(0, abs=1e-15) and float(grad.abs().max()) < 1e-15


@each_loss
def test_the_order_of_the_list_means_nothing(objective):
    ratios, rewards = random_list(5)
    rewards[3] = rewards[1]  # a tie too
    order = [3, 0, 4, 1, 2]
    here, there = listed(ratios, rewards), listed([ratios[i] for i in order], [rewards[i] for i in order])
    assert torch.allclose(objective(here).value, objective(there).value, rtol=1e-14)
    grads = [torch.autograd.grad(objective(s).value.sum(), s.logp)[0][0] for s in (here, there)]
    assert torch.allclose(grads[0][order], grads[1], rtol=1e-13)


@pytest.mark.parametrize("objective", [EACH[0], EACH[2]], ids=["plackett_luce", "tpo"])
def test_a_list_of_two_is_dpo(objective):
    ratios, _ = random_list(2)
    mine, dpo = listed(ratios, [0.9, 0.2]), listed(ratios, [1, 0])
    assert objective(mine).value.item() == pytest.approx(Dpo(beta=0.5)(dpo).value.item(), rel=1e-15)
    turned = listed(ratios[::-1], [0.2, 0.9])
    assert objective(turned).value.item() == pytest.approx(Dpo(beta=0.5)(dpo).value.item(), rel=1e-15)


def test_concordance_by_hand():
    s, reward = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.0]])
    assert concordance(s, beaten(reward)).item() == pytest.approx((0 + 1 + 0.5) / 3)
    assert concordance(s, beaten(torch.zeros(1, 3))).item() == 0.5
    assert concordance(s[:, :2], beaten(torch.tensor([[2.0, 1.0]]))).item() == 1.0  # a list of one pair


# the weights of steps -----------------------------------------------------------------------------------


def stepped(weights: list[list[float]]) -> Scores:
    """Two responses of three tokens; tokens 0 and 1 are the same step in both, with the same log-ratios."""
    ratios = torch.tensor([[[0.5, -0.2, 0.7], [0.5, -0.2, -0.3]]], dtype=DOUBLE, requires_grad=True)
    tokens = TokenScores(
        logp=ratios,
        mask=torch.ones(1, 2, 3, dtype=torch.bool),
        anchors={"reference": torch.zeros(1, 2, 3, dtype=DOUBLE)},
        weights={"step": torch.tensor([weights], dtype=DOUBLE)},
    )
    return Scores.of_tokens(tokens, reward=torch.tensor([[1.0, 0.0]], dtype=DOUBLE))


def test_weights_of_one_are_the_rewards_of_dpo():
    scores = stepped([[1, 1, 1], [1, 1, 1]])
    weighed = Tpo(beta=0.5, lambdas="ones", steps=True)(scores).value
    assert weighed.item() == pytest.approx(Dpo(beta=0.5)(scores).value.item(), rel=1e-15)


def test_a_step_that_both_share_contributes_equally():
    """Whatever weight it has, its log-ratios leave the margin, and its gradients are opposite."""
    first, second = (stepped([[w, w, 1], [w, w, 1]]) for w in (0.0, 1.7))
    objective = Tpo(beta=0.5, lambdas="ones", steps=True)
    assert objective(first).value.item() == pytest.approx(objective(second).value.item(), rel=1e-15)
    (grad,) = torch.autograd.grad(objective(second).value.sum(), second.tokens.logp)
    assert torch.allclose(grad[0, 0, :2], -grad[0, 1, :2], rtol=1e-15)
    (none,) = torch.autograd.grad(objective(first).value.sum(), first.tokens.logp)
    assert not none[0, :, :2].any() and bool((none[0, :, 2] != 0).all())


def test_refusals(no_shape_types):
    scores = listed([0.0, 1.0], [1, 0])
    for objective in EACH:
        with pytest.raises(ValueError, match="at least two"):
            objective(listed([0.0], [1]))
    with pytest.raises(ValueError, match="missing token weight 'step'"):
        Tpo(steps=True)(scores)
    for wrong in ({"beta": 0.0}, {"lambdas": "some"}, {"gain": "log"}):
        with pytest.raises(ValueError):
            Tpo(**wrong)
