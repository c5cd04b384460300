"""IPO, its per-token form, INPO and ONPO against the arithmetic of their papers."""

from __future__ import annotations

import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Inpo, Ipo, IpoMean, Onpo
from equipoise.games import TabularPolicy, enumerate_pairs, regularised_nash, zoo
from equipoise.games import closed_form as step
from equipoise.games.fit import gradient

GAMES = {"rps": zoo.rps(), "brps": zoo.brps(), "random": zoo.random(6, 2), "prompts": zoo.prompts(4, 3)}
each_game = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)


def pairs(*gaps: float, prob: float | None = None, **anchors: float) -> Scores:
    """One pair per gap; each anchor has the same gap on every pair."""
    wide = {"dtype": torch.float64}
    return Scores(
        logp=torch.tensor([[gap, 0.0] for gap in gaps], **wide, requires_grad=True),
        anchors={name: torch.tensor([[gap, 0.0]] * len(gaps), **wide) for name, gap in anchors.items()},
        prob=None if prob is None else torch.full((len(gaps),), prob, **wide),
    )


def test_ipo_by_hand():
    # tau = 1/4: target 2. gap 3 - reference 2 = 1, (1 - 2)^2 = 1; gradient 2 * (1 - 2) = -2 on the chosen
    scores = pairs(3.0, reference=2.0)
    losses = Ipo(tau=0.25)(scores)
    losses.value.sum().backward()
    assert losses.value.item() == 1.0
    assert losses.metrics["margin"].item() == 1.0
    assert scores.logp.grad.tolist() == [[-2.0, 2.0]]


def test_ipo_gradient_turns_past_the_target():
    scores = pairs(1.0, 2.0, 3.0, reference=0.0)
    Ipo(tau=0.25)(scores).value.sum().backward()
    assert scores.logp.grad[:, 0].tolist() == [-2.0, 0.0, 2.0]


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_ipo_minimiser_under_soft_labels(p):
    tau = 0.2
    best = (p - 0.5) / tau
    scores = pairs(best - 0.1, best, best + 0.1, reference=0.0, prob=p)
    reduce.expected(Ipo(tau=tau), scores).value.sum().backward()
    slope = scores.logp.grad[:, 0]
    assert slope[1].item() == pytest.approx(0.0, abs=1e-14)
    assert slope[0] < 0 < slope[2]


def test_ipo_mean_divides_each_ratio_by_its_own_length():
    # log-ratios 6 over 3 tokens and 2 over 4 tokens: 2 - 1/2 = 1.5; tau = 1/2: target 1; (1/2)^2 = 1/4
    scores = Scores(
        logp=torch.tensor([[6.0, 2.0]], requires_grad=True),
        anchors={"reference": torch.zeros(1, 2)},
        length=torch.tensor([[3.0, 4.0]]),
    )
    losses = IpoMean(tau=0.5)(scores)
    losses.value.sum().backward()
    assert losses.value.item() == 0.25
    # 2 * (1.5 - 1) = 1, over the length of each response
    assert scores.logp.grad.tolist()[0] == pytest.approx([1 / 3, -1 / 4])


def test_ipo_mean_with_length_one_is_ipo():
    scores = pairs(3.0, -1.0, reference=0.5)
    single = Scores(logp=scores.logp, anchors=scores.anchors, length=torch.ones_like(scores.logp))
    assert IpoMean(tau=0.3)(single).value.equal(Ipo(tau=0.3)(single).value)


def test_ipo_mean_needs_lengths():
    with pytest.raises(ValueError, match="carries no lengths"):
        IpoMean()(pairs(1.0, reference=0.0))


def test_inpo_by_hand():
    # eta = 1/2, tau = 1/8: share 1/4. h = 5 - 1/4 * 4 - 3/4 * 2 = 2.5, target 1: 1.5^2 = 2.25, gradient 3
    scores = pairs(5.0, reference=4.0, previous=2.0)
    losses = Inpo(eta=0.5, tau=0.125)(scores)
    losses.value.sum().backward()
    assert losses.metrics["margin"].item() == 2.5
    assert losses.value.item() == 2.25
    assert scores.logp.grad.tolist() == [[3.0, -3.0]]


def test_inpo_with_eta_equal_to_tau_is_ipo():
    scores = pairs(5.0, -1.0, reference=4.0, previous=2.0)
    assert torch.allclose(Inpo(eta=0.3, tau=0.3)(scores).value, Ipo(tau=0.3)(scores).value)


def test_inpo_in_the_first_round_is_ipo_with_eta():
    scores = pairs(5.0, -1.0, reference=4.0, previous=4.0)  # pi_1 = pi_ref
    assert torch.allclose(Inpo(eta=0.3, tau=0.1)(scores).value, Ipo(tau=0.3)(scores).value)


def test_inpo_without_tau_forgets_the_reference():
    near, far = pairs(5.0, reference=4.0, previous=2.0), pairs(5.0, reference=-9.0, previous=2.0)
    objective = Inpo(eta=0.3, tau=0.0)
    assert objective(near).value.equal(objective(far).value)


def test_inpo_gradient_vanishes_at_the_closed_form():
    # the biased three-cycle from the reference (0.7, 0.2, 0.1); eta = 0.5, tau = 0.1, first step
    prefer = torch.tensor([[0.5, 0.9, 0.3], [0.1, 0.5, 0.8], [0.7, 0.2, 0.5]], dtype=torch.float64)
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    best = (prefer @ policy / 0.5 + policy.log()).log_softmax(-1)
    # the published table of this step
    assert best.exp().tolist() == pytest.approx([0.767822, 0.118013, 0.114165], abs=1e-6)
    logits = best.clone().requires_grad_()
    first, second = (x.flatten() for x in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"))
    logp, anchor = logits.log_softmax(-1), policy.log()
    both = torch.stack([anchor[first], anchor[second]], dim=1)
    scores = Scores(
        logp=torch.stack([logp[first], logp[second]], dim=1),
        anchors={"reference": both, "previous": both},
        prob=prefer[first, second],
    )
    losses = reduce.expected(Inpo(eta=0.5, tau=0.1), scores)
    reduce.mean(losses.value, policy[first] * policy[second]).backward()
    assert logits.grad.abs().max() < 1e-14


@pytest.mark.parametrize("eta, tau", [(0.1, 0.2), (0.1, -0.1), (0.0, 0.0)])
def test_inpo_refuses(eta, tau):
    with pytest.raises(ValueError, match="eta"):
        Inpo(eta=eta, tau=tau)


def test_onpo_by_hand():
    # eta = 4: target 2; 5 - 1 = 4; (4 - 2)^2, gradient 4
    scores = pairs(5.0, previous=1.0)
    losses = Onpo(eta=4.0)(scores)
    losses.value.sum().backward()
    assert losses.value.item() == 4.0
    assert losses.metrics["margin"].item() == 4.0
    assert scores.logp.grad.tolist() == [[4.0, -4.0]]


def test_onpo_is_inpo_without_tau_at_the_inverse_step():
    scores = pairs(5.0, -1.0, reference=3.0, previous=2.0)
    assert torch.allclose(Onpo(eta=4.0)(scores).value, Inpo(eta=0.25, tau=0.0)(scores).value, rtol=1e-15)


# The label trick: pairs i.i.d. from one policy, every pair and both labels enumerated, put the minimum of a
# constant target exactly at the update written with win rates.


def pull(objective, game, sampler: TabularPolicy, at: TabularPolicy, **anchors: TabularPolicy) -> float:
    rows = enumerate_pairs(game, sampler.probs())
    frozen = {name: policy.log_probs() for name, policy in anchors.items()}
    return float(gradient(objective, rows, start=at.log_probs(), anchors=frozen).abs().max())


@each_game
def test_label_trick_for_inpo(game):
    eta, tau, policy = 0.5, 0.1, game.initial()
    for _ in range(3):
        new = step.inpo_step(game, policy, eta=eta, tau=tau)
        anchors = {"reference": game.initial(), "previous": policy}
        assert pull(Inpo(eta=eta, tau=tau), game, policy, new, **anchors) < 1e-8
        assert pull(Inpo(eta=eta, tau=tau), game, policy, policy, **anchors) > 1e-3
        policy = new


@each_game
def test_label_trick_for_both_fits_of_onpo(game):
    eta, lazy, policy = 0.5, game.initial(), game.initial()
    for _ in range(3):
        next_lazy, new = step.onpo_step(game, lazy, policy, eta=eta)
        assert pull(Onpo(eta=eta), game, policy, next_lazy, previous=lazy) < 1e-8
        assert pull(Onpo(eta=eta), game, policy, new, previous=next_lazy) < 1e-8
        assert pull(Onpo(eta=eta), game, policy, new, previous=lazy) > 1e-3
        lazy, policy = next_lazy, new


@each_game
def test_label_trick_for_online_ipo(game):
    tau, reference = 0.2, game.initial()
    for policy in (reference, step.inpo_step(game, reference, eta=0.5, tau=0.1)):
        best = step.best_response(game, policy, tau)
        assert pull(Ipo(tau=tau), game, policy, best, reference=reference) < 1e-8
        assert pull(Ipo(tau=tau), game, policy, policy, reference=reference) > 1e-3
    nash = regularised_nash(game, tau)
    assert pull(Ipo(tau=tau), game, nash, nash, reference=reference) < 1e-8


@each_game
def test_label_trick_needs_both_responses_from_one_policy(game):
    eta, policy = 0.5, game.initial()
    rows = enumerate_pairs(game, policy.probs(), step.inpo_step(game, policy, eta=0.5, tau=0.1).probs())
    target = step.dno_step(game, policy, eta=eta).log_probs()
    here = {"start": target, "anchors": {"previous": policy.log_probs()}}
    assert gradient(Onpo(eta=1 / eta), rows, **here).abs().max() > 1e-3
