"""ORPO and ASFT: odds by hand, what binds them, what decouples."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core.objectives import Asft, AsftAligned, BcoPair, Orpo, Unlikelihood

MEANS = (-0.01, -0.3, -math.log(2), -2.0, -9.0)


def all_pairs(pairs, **more):
    grid = [(a, b) for a in MEANS for b in MEANS]
    return pairs([a for a, _ in grid], [b for _, b in grid], lengths=(1.0, 1.0), **more)


def test_orpo_by_hand(pairs):
    # p = 0.8 and 0.5: odds 4 and 1, log 4; NLL -log 0.8
    scores = pairs([3 * math.log(0.8)], [2 * math.log(0.5)], lengths=(3.0, 2.0))
    losses = Orpo(lam=0.5)(scores)
    assert losses.value.item() == pytest.approx(-math.log(0.8) + 0.5 * math.log1p(1 / 4))
    assert losses.metrics["margin"].item() == pytest.approx(math.log(4))


def test_without_its_odds_it_is_supervised_fine_tuning(pairs):
    scores = pairs([-6.0], [-3.0], lengths=(3.0, 2.0))
    for objective in (Orpo(lam=0.0), Asft(lam=0.0)):
        assert objective(scores).value.item() == pytest.approx(2.0)


@pytest.mark.parametrize("objective", [Orpo(lam=0.7), Asft(lam=0.7)])
def test_a_likelier_chosen_and_an_unlikelier_rejected_response_lower_it(pairs, objective):
    scores = all_pairs(pairs)
    objective(scores).value.sum().backward()
    assert bool((scores.logp.grad[:, 0] < 0).all())
    assert bool((scores.logp.grad[:, 1] > 0).all())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_unlikelihood_in_closed_form_and_within_asft(pairs, alpha):
    scores = all_pairs(pairs)
    p = scores.logp.detach().exp()
    found = Unlikelihood(alpha=alpha)(scores).value
    assert torch.allclose(found, -p[:, 0].log() - alpha * torch.log1p(-p[:, 1]), rtol=1e-12)
    if alpha < 1:
        lam = alpha / (1 - alpha)
        assert torch.allclose(Asft(lam=lam)(scores).value, (1 + lam) * found, rtol=1e-12)
    else:  # no case is ignored: never below the odds term of ORPO, which looks at two of four
        odds = Orpo(lam=1.0)(scores).value - Orpo(lam=0.0)(scores).value
        assert bool((found >= odds - 1e-12).all())


def test_unlikelihood_of_a_response_that_is_unlikely_costs_nothing(pairs):
    scores = pairs([-1.0], [-200.0], lengths=(2.0, 2.0))
    losses = Unlikelihood()(scores)
    losses.value.sum().backward()
    assert losses.value.item() == pytest.approx(0.5) and abs(scores.logp.grad[0, 1].item()) < 1e-40


@pytest.mark.parametrize("lam", [0.1, 1.0, 3.0])
def test_asft_in_closed_form(pairs, lam):
    scores = all_pairs(pairs)
    p = scores.logp.detach().exp()
    closed = -(1 + lam) * p[:, 0].log() - lam * torch.log1p(-p[:, 1])
    assert torch.allclose(Asft(lam=lam)(scores).value, closed, rtol=1e-12)


@pytest.mark.parametrize("lam", [0.1, 1.0, 3.0])
def test_orpo_is_asft_less_what_the_pair_shares(pairs, lam):
    scores = all_pairs(pairs)
    p = scores.logp.detach().exp()
    shared = (p[:, 0] * (1 - p[:, 1]) + p[:, 1] * (1 - p[:, 0])).log()
    orpo, asft = Orpo(lam=lam)(scores).value, Asft(lam=lam)(scores).value
    assert torch.allclose(orpo, asft + lam * shared, rtol=1e-12)
    assert bool((orpo <= asft).all())


def test_asft_decouples_and_orpo_does_not(pairs):
    coupled = {}
    for objective in (Asft(lam=1.0), Orpo(lam=1.0)):
        slopes = []
        for rejected in (-0.5, -4.0):
            scores = pairs([-1.0], [rejected], lengths=(1.0, 1.0))
            objective(scores).value.sum().backward()
            slopes.append(scores.logp.grad[0, 0].item())
        coupled[type(objective).__name__] = abs(slopes[0] - slopes[1])
    assert coupled["Asft"] == pytest.approx(0.0, abs=1e-15)
    assert coupled["Orpo"] > 0.1


def test_an_unlikely_rejected_response_costs_nothing_and_a_certain_one_everything(pairs):
    gone, likely, certain = (
        Asft(lam=1.0)(pairs([-1.0], [b], lengths=(1.0, 1.0))).value.item() for b in (-60.0, -1e-3, -1e-5)
    )
    assert gone == pytest.approx(2.0)
    assert likely == pytest.approx(2.0 - math.log(-math.expm1(-1e-3)))
    assert certain > likely + 4


def test_the_aligned_form_is_bco_on_odds(pairs):
    policy, reference = (0.7, 0.4), (0.5, 0.6)
    scores = pairs(
        [math.log(policy[0])],
        [math.log(policy[1])],
        reference=(math.log(reference[0]), math.log(reference[1])),
        lengths=(1.0, 1.0),
    )
    odds = [math.log(p / (1 - p)) - math.log(q / (1 - q)) for p, q in zip(policy, reference, strict=True)]
    on_odds = pairs([odds[0]], [odds[1]], reference=(0.0, 0.0))
    value = AsftAligned(beta=0.3)(scores).value.item()
    assert value == pytest.approx(BcoPair(beta=0.3)(on_odds).value.item(), rel=1e-12)
