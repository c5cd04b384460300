"""HyPO and SAIL: DPO with a score-function term, against exact enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Dpo, Hypo, Sail
from equipoise.games import Comparisons, TabularPolicy, enumerate_pairs, kl, zoo
from equipoise.games.fit import gradient

DOUBLE = torch.float64


def some_policy(actions: int, seed: int) -> TabularPolicy:
    generator = torch.Generator().manual_seed(seed)
    return TabularPolicy(torch.randn(1, actions, generator=generator, dtype=DOUBLE))


def at(policy: TabularPolicy, reference: TabularPolicy) -> dict:
    return {"start": policy.log_probs(), "anchors": {"reference": reference.log_probs()}}


def slopes(objective, scores: Scores) -> list[float]:
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0][0].tolist()


# HyPO -------------------------------------------------------------------------------------------


def test_hypo_by_hand(group):
    # own ratios 3 and 1: less the other 2 and -2, times lam = 1/2, over two; the pair's slope is beta/2 at margin 0
    scores = group([1.0, 1.0, 3.0, 1.0], None, "reference")
    assert slopes(Hypo(beta=0.5, lam=0.5), scores) == pytest.approx([-0.25, 0.25, 0.5, -0.5])
    assert Hypo()(scores).metrics["kl"].item() == 2
    # one own sample: no baseline
    alone = group([1.0, 1.0, 3.0], None, "reference")
    assert slopes(Hypo(beta=0.5, lam=0.5), alone) == pytest.approx([-0.25, 0.25, 1.5])


def test_hypo_without_kl_is_dpo(group):
    scores = group([1.0, -0.5, 3.0, 1.0], None, "reference")
    assert Hypo(beta=0.3, lam=0.0)(scores).value.equal(Dpo(beta=0.3)(scores).value)


def test_hypo_needs_a_sample_of_its_own(group):
    with pytest.raises(ValueError, match="at least one sample of the policy"):
        Hypo()(group([1.0, 2.0], None, "reference"))


def with_own(pairs: Comparisons, policy: TabularPolicy, count: int) -> Comparisons:
    """Every recorded pair with every tuple of `count` samples of the policy."""
    own = torch.cartesian_prod(*[torch.arange(policy.shape[1])] * count).reshape(-1, count)
    a, b = len(pairs.weight), len(own)
    return Comparisons(
        pairs.prompts.repeat_interleave(b),
        torch.cat([pairs.responses.repeat_interleave(b, dim=0), own.repeat(a, 1)], dim=1),
        pairs.weight.repeat_interleave(b) * policy.probs()[0][own].prod(dim=1).repeat(a),
        pairs.prob.repeat_interleave(b),
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_hypo_adds_the_gradient_of_the_reverse_kl(count):
    game, policy, data = zoo.brps(), some_policy(3, 1), some_policy(3, 2)
    pairs, here = enumerate_pairs(game, data.probs()), at(policy, game.initial())
    lam = 0.7
    added = gradient(Hypo(beta=0.5, lam=lam), with_own(pairs, policy, count), **here)
    added = added - gradient(Dpo(beta=0.5), pairs, **here)
    ratio = policy.log_probs() - game.initial().log_probs()
    want = lam * policy.probs() * (ratio - kl(policy, game.initial()))  # lam E_pi[ (lr - KL) grad log pi ]
    assert torch.allclose(added, want, rtol=0, atol=1e-14)
    assert want.abs().max() > 1e-2


def test_hypo_kl_pulls_nowhere_at_the_reference_and_ignores_a_constant(group):
    scores = group([0.0] * 5, None, "reference")
    assert slopes(Hypo(beta=0.5, lam=9.0), scores)[2:] == [0.0] * 3
    here, moved = (group([1.0, 2.0, *own], None, "reference") for own in ([3.0, 1.0, 0.5], [5.0, 3.0, 2.5]))
    assert slopes(Hypo(), moved)[2:] == pytest.approx(slopes(Hypo(), here)[2:])


# three arms, the third absent from the data: P(a > b) = 0.8
COVERED = Comparisons(
    torch.zeros(1, dtype=torch.long),
    torch.tensor([[0, 1]]),
    torch.ones(1, dtype=DOUBLE),
    torch.tensor([0.8], dtype=DOUBLE),
)
THREE = TabularPolicy.from_probs([0.4, 0.4, 0.2])


@pytest.mark.parametrize("absent", [0.190, 0.635])
def test_dpo_does_not_care_for_an_arm_outside_the_data(absent):
    share = (1 - absent) / 17  # margin beta log(16) = logit(0.8)
    policy = TabularPolicy.from_probs([16 * share, share, absent])
    assert gradient(Dpo(beta=0.5), COVERED, **at(policy, THREE)).abs().max() < 1e-15
    hypo = gradient(Hypo(beta=0.5, lam=0.1), with_own(COVERED, policy, 1), **at(policy, THREE))
    assert hypo.abs().max() > 1e-3


@pytest.mark.parametrize("start", [(0.4, 0.4, 0.2), (0.05, 0.05, 0.9), (0.6, 0.39, 0.01)])
def test_hypo_has_one_answer_for_an_arm_outside_the_data(start):
    policy, objective = TabularPolicy.from_probs(start), Hypo(beta=0.5, lam=0.1)
    for _ in range(100):  # fresh samples of the policy at every step
        slope = gradient(objective, with_own(COVERED, policy, 1), **at(policy, THREE))
        policy = TabularPolicy(policy.log_probs() - 16 * slope)
    assert policy.probs()[0].tolist() == pytest.approx([0.667901, 0.056819, 0.275280], abs=1e-6)


# SAIL -------------------------------------------------------------------------------------------


def test_sail_by_hand(group):
    # beta = 1/2, lr = (3, 1): u = 1, F + log 2 = log 2 sigma(1); log-probs are the ratios here
    scores = group([3.0, 1.0], None, "reference")
    f, slope = math.log(2 / (1 + math.exp(-1))), 0.5 / (1 + math.e)  # dF/dlr_0
    assert slopes(Sail(beta=0.5, generation=0.3), scores) == pytest.approx(
        [-slope - 0.3 * f, slope - 0.3 * f]
    )


def test_sail_without_weights_is_dpo(group):
    scores = group([3.0, -1.0], None, "reference")
    sail = Sail(beta=0.4, generation=0.0, preference=0.0)(scores)
    assert torch.allclose(sail.value, Dpo(beta=0.4)(scores).value)


@pytest.mark.parametrize("margin", [-4.0, -0.5, 0.0, 1.0, 6.0])
def test_self_labelling_has_the_slope_of_the_binary_entropy(group, margin):
    scores = group([margin, 0.0], None, "reference")
    p = 1 / (1 + math.exp(-margin))
    slope = slopes(Sail(beta=1.0, generation=0.0, preference=1.0), scores)
    assert slope == pytest.approx([-margin * p * (1 - p), margin * p * (1 - p)], abs=1e-15)


def test_a_policy_that_labels_itself_reads_no_label(group):
    scores, objective = group([2.0, -1.0], None, "reference"), Sail(generation=0.5, preference=0.5)
    assert torch.allclose(objective(scores).value, objective(scores.swap()).value, rtol=1e-14)
    judged = Sail(generation=0.5, preference=0.0)
    assert not torch.allclose(judged(scores).value, judged(scores.swap()).value)


def test_a_baseline_leaves_sails_expected_gradient_as_it_is():
    game, beta, policy = zoo.random(4, 1), 0.5, some_policy(4, 1)
    pairs = enumerate_pairs(game, policy.probs())
    code = gradient(Sail(beta=beta), pairs, **at(policy, game.initial()))
    for baseline in (0.0, -3.0):
        logits = policy.logits.clone().requires_grad_()
        logp = logits.log_softmax(dim=1)[0]
        ratio = logp - game.initial().log_probs()[0]
        total = logits.new_zeros(())
        for order, prob in ((pairs.responses, pairs.prob), (pairs.responses.flip(1), 1 - pairs.prob)):
            fit = logsigmoid(beta * (ratio[order[:, 0]] - ratio[order[:, 1]]))
            written = (fit.detach() - baseline) * (logp[order[:, 0]] + logp[order[:, 1]])
            total = total - (pairs.weight * prob * (fit + written)).sum()
        (by_hand,) = torch.autograd.grad(total, logits)
        assert torch.allclose(by_hand, code, rtol=0, atol=1e-14)


def test_sails_gradient_is_that_of_the_loss_whose_samples_move_too():
    game, policy = zoo.random(4, 1), some_policy(4, 1)
    pairs = enumerate_pairs(game, policy.probs())
    logits = policy.logits.clone().requires_grad_()
    logp = logits.log_softmax(dim=1)[0]
    reference = game.initial().log_probs()[0]
    scores = Scores(
        logp=logp[pairs.responses], anchors={"reference": reference[pairs.responses]}, prob=pairs.prob
    )
    moving = logp.exp()[pairs.responses].prod(dim=1)  # the probability of the pair, with its gradient
    (want,) = torch.autograd.grad((moving * reduce.expected(Dpo(beta=0.5), scores).value).sum(), logits)
    found = gradient(Sail(beta=0.5), pairs, **at(policy, game.initial()))
    assert torch.allclose(found, want, rtol=0, atol=1e-14)
