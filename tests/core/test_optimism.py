"""XPO and VPO: the sign of optimism, the identities between them, and the value they lean to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Dpo, Vpo, Xpo
from equipoise.games import Comparisons, TabularPolicy, enumerate_pairs, kl, minimise, zoo
from equipoise.games.fit import gradient

DOUBLE = torch.float64


def some_policy(actions: int, seed: int) -> TabularPolicy:
    generator = torch.Generator().manual_seed(seed)
    return TabularPolicy(torch.randn(1, actions, generator=generator, dtype=DOUBLE))


def triples(seed: int = 0) -> Scores:
    shape = {"generator": torch.Generator().manual_seed(seed), "dtype": DOUBLE}
    return Scores(
        logp=torch.randn(5, 3, **shape).requires_grad_(), anchors={"reference": torch.randn(5, 3, **shape)}
    )


def slopes(objective, scores: Scores):
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_xpo_by_hand(group):
    # beta = 1/2: margin 1; the third log-ratio 4 counts 1/4
    scores = group([3.0, 1.0, 4.0], None, "reference")
    assert Xpo(beta=0.5, alpha=0.25)(scores).value.item() == pytest.approx(softplus(-1.0) + 1.0)


def test_vpo_by_hand(group):
    scores = group([3.0, 1.0, 4.0], None, "reference")
    for optimistic, sign in ((True, 1), (False, -1)):
        value = Vpo(beta=0.5, alpha=0.25, optimistic=optimistic)(scores).value.item()
        assert value == pytest.approx(softplus(-1.0) + sign * 0.5)


@pytest.mark.parametrize(
    "objective, sign",
    [
        (Xpo(beta=0.5, alpha=0.2), +1),
        (Vpo(beta=0.5, alpha=0.4), +1),
        (Vpo(beta=0.5, alpha=0.4, optimistic=False), -1),
    ],
)
def test_optimism_lowers_the_third_response_and_pessimism_raises_it(objective, sign):
    scores = triples()
    grad, dpo = slopes(objective, scores), slopes(Dpo(beta=0.5), scores)
    assert torch.allclose(
        grad[:, :2], dpo[:, :2], rtol=1e-14
    )  # the other two gradients are DPO's, whatever the sign
    assert grad[:, 2].tolist() == pytest.approx([sign * 0.2] * 5)  # and descent goes against it


@pytest.mark.parametrize("objective", [Xpo(alpha=0.0), Vpo(alpha=0.0), Vpo(alpha=0.0, optimistic=False)])
def test_without_a_bonus_it_is_dpo(objective):
    assert torch.allclose(objective(triples()).value, Dpo()(triples()).value, rtol=1e-14)


def test_optimistic_vpo_is_xpo():
    vpo, xpo = Vpo(beta=0.3, alpha=0.2)(triples()), Xpo(beta=0.3, alpha=0.2 * 0.3)(triples())
    assert torch.allclose(vpo.value, xpo.value, rtol=1e-15)


def test_pessimistic_vpo_on_the_chosen_response_is_dpo_with_a_likelihood_loss():
    pairs = replace(triples(), anchors={"reference": triples().of("reference")[:, [0, 1, 0]]})
    scores = replace(pairs, logp=pairs.logp.detach()[:, [0, 1, 0]].requires_grad_())
    grad = slopes(Vpo(beta=0.3, alpha=0.2, optimistic=False), scores)
    likelihood = torch.autograd.grad(
        (Dpo(beta=0.3)(scores).value - 0.06 * scores.logp[:, 0]).sum(), scores.logp
    )[0]
    assert torch.allclose(grad[:, 0] + grad[:, 2], likelihood[:, 0], rtol=1e-14)
    assert torch.allclose(grad[:, 1], likelihood[:, 1], rtol=1e-14)


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_the_exploration_term_stops_at_500_nats_and_the_pair_does_not(group, far):
    scores = group([far, 0.0, far], None, "reference")
    objective = Xpo(beta=1e-3, alpha=1.0)
    assert objective(scores).value.item() == pytest.approx(softplus(-far * 1e-3) + math.copysign(500, far))
    grad = slopes(objective, scores)[0]
    assert grad[2] == 0 and grad[0] < 0


def with_third(pairs: Comparisons, sampler: TabularPolicy) -> Comparisons:
    """Every pair with every response of the sampler as the third candidate; one prompt."""
    a, b = len(pairs.weight), sampler.shape[1]
    third = torch.arange(b).repeat(a)[:, None]
    return Comparisons(
        pairs.prompts.repeat_interleave(b),
        torch.cat([pairs.responses.repeat_interleave(b, dim=0), third], dim=1),
        pairs.weight.repeat_interleave(b) * sampler.probs()[0].repeat(a),
        pairs.prob.repeat_interleave(b),
    )


def test_exploration_is_minus_the_kl_from_the_reference_and_flat_there():
    game, policy, alpha = zoo.random(4, 1), some_policy(4, 2), 0.7
    reference = game.initial()
    rows = with_third(enumerate_pairs(game, policy.probs()), reference)
    anchors = {"reference": reference.log_probs()}

    def added(at: TabularPolicy):
        logits = at.log_probs()
        xpo = gradient(Xpo(alpha=alpha), rows, start=logits, anchors=anchors)
        return xpo - gradient(Dpo(), rows, start=logits, anchors=anchors)

    logits = policy.logits.clone().requires_grad_()
    (want,) = torch.autograd.grad(-alpha * kl(reference, TabularPolicy(logits)).sum(), logits)
    assert torch.allclose(added(policy), want, rtol=0, atol=1e-14)
    assert want.abs().max() > 1e-2
    assert added(reference).abs().max() < 1e-15  # at pi_ref the term has expectation zero


def test_with_balanced_labels_only_exploration_moves_the_reference(group):
    # one pair, both labels alike: DPO's slopes cancel, +alpha remains on the third response
    scores = group([0.0, 0.0, 0.0], None, "reference")
    turned = scores.swap()
    both = (
        slopes(Xpo(alpha=0.2), scores)[0]
        + torch.autograd.grad(Xpo(alpha=0.2)(turned).value.sum(), scores.logp)[0][0]
    )
    assert (both / 2).tolist() == pytest.approx([0.0, 0.0, 0.2])


def test_optimism_moves_the_minimiser_away_from_the_sampler_and_pessimism_towards_it():
    game, beta = zoo.bradley_terry([0.0, 0.5, 1.0], (0.5, 0.3, 0.2)), 0.5
    reference = game.initial()
    rows = with_third(enumerate_pairs(game, reference.probs()), reference)

    def away(optimistic: bool, alpha: float) -> float:
        objective = Vpo(beta=beta, alpha=alpha, optimistic=optimistic)
        anchors = {"reference": reference.log_probs()}
        best = minimise(objective, *rows, start=reference.log_probs(), anchors=anchors)
        return kl(reference, TabularPolicy(best)).item()

    assert away(False, 0.02) < away(True, 0.0) < away(True, 0.02)


@pytest.mark.parametrize("seed", range(4))
def test_the_optimal_value_is_minus_beta_times_the_calibrated_log_ratio(seed):
    # max_pi E_pi r - beta KL(pi || ref) by its closed form and by search, for a reward with E_cal r = 0
    beta = (0.1, 0.5, 1.0, 3.0)[seed]
    reference, calibration = some_policy(5, seed), some_policy(5, seed + 10)
    reward = some_policy(5, seed + 20).logits
    reward = reward - (calibration.probs() * reward).sum()
    best = TabularPolicy(reference.log_probs() + reward / beta)
    value = (best.probs() * reward).sum() - beta * kl(best, reference).sum()
    identity = -beta * (calibration.probs() * (best.log_probs() - reference.log_probs())).sum()
    assert identity.item() == pytest.approx(value.item(), abs=1e-14)
    for step in range(20):
        other = TabularPolicy(best.logits + 0.1 * some_policy(5, 100 + step).logits)
        assert (other.probs() * reward).sum() - beta * kl(other, reference).sum() < value
