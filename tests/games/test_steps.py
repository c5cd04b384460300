"""One-step updates against printed values, and INPO's convergence from the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from equipoise.games import PreferenceGame, TabularPolicy, kl_to, regularised_nash, zoo
from equipoise.games import closed_form as step

BRPS = zoo.brps()
REF = BRPS.initial()


def twice(move: Callable[[TabularPolicy], TabularPolicy]) -> list[TabularPolicy]:
    first = move(REF)
    return [first, move(first)]


def egpo() -> list[TabularPolicy]:
    half, first = step.egpo_step(BRPS, REF, eta=0.5, beta=0.1)
    return [half, first, step.egpo_step(BRPS, first, eta=0.5, beta=0.1)[1]]


def onpo() -> list[TabularPolicy]:
    lazy, second = step.onpo_step(BRPS, REF, REF, eta=0.5)
    return [lazy, second, step.onpo_step(BRPS, lazy, second, eta=0.5)[1]]


TABLE = {
    "inpo": (
        lambda: twice(lambda p: step.inpo_step(BRPS, p, eta=0.5, tau=0.1)),
        [(0.767822, 0.118013, 0.114165), (0.784961, 0.075367, 0.139672)],
    ),
    "nash_md": (
        lambda: twice(lambda p: step.nash_md_step(BRPS, p, eta=0.5, tau=0.1)),
        [(0.719951, 0.176165, 0.103884), (0.735996, 0.155691, 0.108313)],
    ),
    "mwu": (lambda: [step.mwu_step(BRPS, REF, eta=1.0)], [(0.737844, 0.154620, 0.107536)]),
    "dno": (lambda: [step.dno_step(BRPS, REF, eta=0.5)], [(0.767822, 0.118013, 0.114165)]),
    "egpo": (
        egpo,
        [(0.719951, 0.176165, 0.103884), (0.718924, 0.176221, 0.104854), (0.733921, 0.155904, 0.110175)],
    ),
    "mmd": (
        lambda: [step.mmd_step(BRPS, REF, REF, eta=1.0, alpha=0.1)],
        [(0.734741, 0.158370, 0.106889)],
    ),
    "onpo": (
        onpo,
        [(0.719951, 0.176165, 0.103884), (0.737844, 0.154620, 0.107536), (0.749607, 0.135445, 0.114948)],
    ),
    "gpo": (lambda: [step.gpo_step(BRPS, REF, eta=1.0)], [(0.842562, 0.041660, 0.115778)]),
    "best response": (lambda: [step.ipo_optimum(BRPS, REF, 0.1)], [(0.842206, 0.010840, 0.146953)]),
}


@pytest.mark.parametrize("row", TABLE)
def test_one_step_table(row):
    made, expected = TABLE[row]
    for policy, values in zip(made(), expected, strict=True):
        assert policy.probs()[0].tolist() == pytest.approx(values, abs=6e-7)


def distances(game: PreferenceGame, tau: float, eta: Callable[[int], float], rounds: int) -> list[float]:
    star, policy = regularised_nash(game, tau), game.initial()
    found = []
    for t in range(1, rounds + 1):
        policy = step.inpo_step(game, policy, eta=eta(t), tau=tau)
        found.append(float(kl_to(policy, star)))
    return found


def test_inpo_reaches_the_regularised_nash_policy():
    assert abs(distances(zoo.brps(), 0.1, lambda t: 0.5, 100)[-1]) < 1e-12


@pytest.mark.parametrize(("eta", "expected"), [(0.5, 1.1e-4), (1.0, 9.6e-7), (2.0, 7.3e-5)])
def test_inpo_on_rps_after_a_hundred_rounds(eta, expected):
    assert distances(zoo.rps(), 0.1, lambda t: eta, 100)[-1] == pytest.approx(expected, rel=0.04)


def test_inpo_with_too_small_an_inverse_step_cycles():
    """The distance to the equilibrium stays between 0.36 and 1.19 nats for ever, 0.67 on average."""
    late = distances(zoo.rps(), 0.1, lambda t: 0.2, 1000)[500:]
    assert min(late) > 0.36 and max(late) < 1.19
    assert sum(late) / len(late) == pytest.approx(0.67, abs=0.02)
    assert max(late) > 0.9  # it keeps moving: this is a cycle, not a wrong fixed point


@pytest.mark.parametrize("name", ["rps", "brps"])
def test_inpo_with_growing_inverse_steps_stays_below_its_bound(name):
    tau = 0.1
    found = distances(zoo.make(name), tau, lambda t: tau * (t + 2) / 2, 1000)
    # policy t + 1 after t steps; 32 C^2 / (tau^2 (T + 1)) with C = max(B tau, 1) >= 1
    assert all(distance <= 32 / (tau**2 * (t + 1)) for t, distance in enumerate(found, start=1))
    assert found[-1] < 4e-8


@pytest.mark.parametrize("eta", [0.3, 1.0, 5.0])
def test_the_regularised_nash_policy_is_a_fixed_point_of_inpo_for_every_eta(eta):
    game = zoo.random(8, 1)
    star = regularised_nash(game, 0.2)
    assert (step.inpo_step(game, star, eta=eta, tau=0.2).probs() - star.probs()).abs().max() < 1e-13


def test_limits_of_inpo():
    game, policy = zoo.random(5, 2), TabularPolicy(torch.zeros(1, 5, dtype=torch.float64))
    same = step.inpo_step(game, policy, eta=0.4, tau=0.4).probs()
    assert torch.allclose(same, step.best_response(game, policy, 0.4).probs(), atol=1e-14)
    plain = step.inpo_step(game, policy, eta=0.4, tau=0.0).probs()
    assert torch.allclose(plain, step.mwu_step(game, policy, eta=2.5).probs(), atol=1e-14)
    with pytest.raises(ValueError, match="0 <= tau <= eta"):
        step.inpo_step(game, policy, eta=0.1, tau=0.2)


def test_a_step_ignores_a_constant_payoff():
    payoff = BRPS.win(REF)
    moved = step.mirror_step(REF, payoff + 7.0, step=0.5, magnet=REF, pull=0.2)
    assert torch.allclose(
        moved.probs(), step.mirror_step(REF, payoff, step=0.5, magnet=REF, pull=0.2).probs(), atol=1e-14
    )
    with pytest.raises(ValueError, match="needs a magnet"):
        step.mirror_step(REF, payoff, step=0.5, pull=0.2)


def test_logit_scores_need_uncertain_preferences():
    with pytest.raises(ValueError, match="certain preference"):
        step.gpo_step(zoo.rps(), zoo.rps().initial(), eta=1.0)


def test_dno_improves_monotonically():
    first = step.dno_step(BRPS, REF, eta=0.5)
    rate = BRPS.value(first, REF).item()
    assert rate == pytest.approx(0.525699, abs=6e-7)
    assert 0.5 + 0.5 * kl_to(REF, first).item() == pytest.approx(0.511938, abs=6e-7)
