"""Regressions on rewards: hand arithmetic, and exact enumeration against the closed forms of their papers."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Copg, Dno, Dpo, Egpo, Gpo, Inpo, Ipo, Rloo, Sppo, SppoHard
from equipoise.core.objectives.groups import leave_one_out, pair_squares
from equipoise.games import TabularPolicy, enumerate_pairs, kl, minimise, regularised_nash, zoo
from equipoise.games import closed_form as step
from equipoise.games.fit import gradient

DOUBLE = torch.float64
BRPS = zoo.brps()
GAMES = {"rps": zoo.rps(), "brps": BRPS, "random": zoo.random(5, 0)}
each_game = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)


def some_policy(actions: int, seed: int) -> TabularPolicy:
    generator = torch.Generator().manual_seed(seed)
    return TabularPolicy(torch.randn(1, actions, generator=generator, dtype=DOUBLE))


def at(policy: TabularPolicy, **anchors: TabularPolicy) -> dict:
    return {"start": policy.log_probs(), "anchors": {k: v.log_probs() for k, v in anchors.items()}}


def uniform(actions: int) -> TabularPolicy:
    return TabularPolicy(torch.zeros(1, actions, dtype=DOUBLE))


def slopes(objective, scores: Scores) -> list[float]:
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0][0].tolist()


# groups -----------------------------------------------------------------------------------------


def test_statistics_of_a_group_by_hand():
    values = torch.tensor([[1.0, 2.0, 6.0]], dtype=DOUBLE)
    assert pair_squares(values).tolist() == pytest.approx([(1 + 25 + 16) / 3])
    assert leave_one_out(values)[0].tolist() == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5])


@pytest.mark.parametrize("statistic", [pair_squares, leave_one_out])
def test_a_group_of_one_is_refused(statistic):
    with pytest.raises(ValueError, match="at least two responses"):
        statistic(torch.ones(3, 1))


# EGPO -------------------------------------------------------------------------------------------


def test_egpo_by_hand(group):
    # beta = 1/2: lr - R/beta = (3, 1, 2) - (2, 1, 0) = (1, 0, 2); squared differences 1, 1, 4; mean 2
    scores = group([3.0, 1.0, 2.0], [1.0, 0.5, 0.0], "reference")
    assert Egpo(beta=0.5)(scores).value.item() == pytest.approx(2)
    # 2/3 sum over the others of the difference: 2/3 (1 - 1), 2/3 (-1 - 2), 2/3 (1 + 2)
    assert slopes(Egpo(beta=0.5), scores) == pytest.approx([0, -2, 2])


@each_game
def test_egpo_gradient_on_uniform_pairs(game, groups):
    beta, n = 0.3, game.actions
    policy, opponent, even = some_policy(n, 1), some_policy(n, 2), uniform(n)
    rows = groups(game.win(opponent), even, even)
    found = gradient(Egpo(beta=beta), rows, **at(policy, reference=game.initial()))
    d = policy.log_probs() - game.initial().log_probs() - game.win(opponent) / beta
    assert torch.allclose(found, 4 / n * (d - d.mean()), rtol=0, atol=1e-13)


@each_game
def test_two_gradient_steps_from_one_anchor_are_the_extragradient_step(game, groups):
    beta, eta = 0.1, 0.5
    rate, even = eta * beta * game.actions / 4, uniform(game.actions)

    def descend(start, opponent):
        rows = groups(game.win(opponent), even, even)
        slope = gradient(Egpo(beta=beta), rows, **at(start, reference=game.initial()))
        return TabularPolicy(start.log_probs() - rate * slope)

    policy = some_policy(game.actions, 3)
    half = descend(policy, policy)
    full = descend(policy, half)
    for got, want in zip((half, full), step.egpo_step(game, policy, eta=eta, beta=beta), strict=True):
        assert torch.allclose(got.probs(), want.probs(), rtol=0, atol=1e-14)


@each_game
def test_egpo_target_is_the_best_response_for_every_sampler(game, groups):
    beta, opponent = 0.2, some_policy(game.actions, 4)
    best = step.best_response(game, opponent, beta)
    rows = groups(game.win(opponent), some_policy(game.actions, 5), some_policy(game.actions, 6))
    assert gradient(Egpo(beta=beta), rows, **at(best, reference=game.initial())).abs().max() < 1e-13
    nash = regularised_nash(game, beta)
    rows = groups(game.win(nash), uniform(game.actions), nash, game.initial())  # groups of three
    assert gradient(Egpo(beta=beta), rows, **at(nash, reference=game.initial())).abs().max() < 1e-11


@each_game
def test_egpo_with_one_sampled_opponent_has_the_same_expected_gradient(game, groups):
    opponent, even, start = some_policy(game.actions, 7), uniform(game.actions), some_policy(game.actions, 8)
    here = at(start, reference=game.initial())
    exact = gradient(Egpo(beta=0.3), groups(game.win(opponent), even, even), **here)
    sampled = sum(
        p * gradient(Egpo(beta=0.3), groups(game.preference[:, :, z], even, even), **here)
        for z, p in enumerate(opponent.probs()[0])
    )
    assert torch.allclose(sampled, exact, rtol=0, atol=1e-13)


# CoPG -------------------------------------------------------------------------------------------


def test_copg_by_hand(group):
    # beta = 1/2: R - beta lr = (2, 1) - (1, 3)/2 = (1.5, -0.5); 2^2/(2 beta) = 4; each the other's baseline
    scores = group([1.0, 3.0], [2.0, 1.0], "reference")
    assert Copg(beta=0.5)(scores).value.item() == pytest.approx(4)
    assert slopes(Copg(beta=0.5), scores) == pytest.approx([-2, 2])
    # three responses: (2, 1, 4) - (1, 3, 2)/2 = (1.5, -0.5, 3): (4 + 2.25 + 12.25)/(2 beta)/(k - 1)
    three = group([1.0, 3.0, 2.0], [2.0, 1.0, 4.0], "reference")
    assert Copg(beta=0.5)(three).value.item() == pytest.approx(18.5 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_copg_has_one_minimiser_whoever_wrote_the_responses(groups, seed):
    beta, n = 0.4, 4
    reference, reward = some_policy(n, seed), some_policy(n, seed + 10).logits
    best = step.dpo_optimum(reference, reward, beta)
    for samplers in ((5, 6), (7, 8, 9)):
        rows = groups(reward, *(some_policy(n, seed + s) for s in samplers))
        assert gradient(Copg(beta=beta), rows, **at(best, reference=reference)).abs().max() < 1e-15


def test_copg_on_its_own_samples_is_twice_the_regularised_policy_gradient(groups):
    beta, n = 0.4, 4
    reference, policy, reward = some_policy(n, 1), some_policy(n, 2), some_policy(n, 3).logits
    got = gradient(Copg(beta=beta), groups(reward, policy, policy), **at(policy, reference=reference))
    logits = policy.logits.clone().requires_grad_()
    live = TabularPolicy(logits)
    value = (live.probs() * reward).sum() - beta * kl(live, reference).sum()
    (want,) = torch.autograd.grad(value, logits)
    assert torch.allclose(got, -2 * want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.4])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_copg_is_rloo_response_by_response(beta, k):
    shape = {"generator": torch.Generator().manual_seed(k), "dtype": DOUBLE}
    scores = Scores(
        logp=torch.randn(4, k, **shape).requires_grad_(),
        anchors={"reference": torch.randn(4, k, **shape)},
        reward=torch.randn(4, k, **shape),
    )
    copg, rloo = (
        torch.autograd.grad(o(scores).value.sum(), scores.logp)[0] for o in (Copg(beta=beta), Rloo(tau=beta))
    )
    assert torch.allclose(copg, k * rloo, rtol=0, atol=1e-14)


def test_copg_with_rewards_half_apart_is_ipo(group):
    for ratios in ([3.0, 1.0], [-2.0, 0.5]):
        scores = group(ratios, [0.5, 0.0], "reference")
        ipo = Ipo(tau=0.3)(scores).value.item()
        assert Copg(beta=0.3)(scores).value.item() == pytest.approx(0.3 / 2 * ipo)


def test_copg_without_a_kl_is_the_limit_of_its_gradient_and_has_no_minimum(group):
    scores = group([1.0, 3.0, 2.0], [2.0, 1.0, 4.0], "reference")
    assert slopes(Copg(beta=1e-9), scores) == pytest.approx(slopes(Copg(beta=0.0), scores), abs=1e-6)
    # -1/2 sum of dR dlr: (2 - 1)(1 - 3) + (2 - 4)(1 - 2) + (1 - 4)(3 - 2) = -3
    assert Copg(beta=0.0)(scores).value.item() == pytest.approx(1.5)
    # along its gradient it falls for ever, at a constant rate
    falls = [
        Copg(beta=0.0)(group([2 * t, t, 4 * t], [2.0, 1.0, 4.0], "reference")).value.item() for t in (1, 10)
    ]
    assert falls[1] == pytest.approx(10 * falls[0]) and falls[0] < 0


# SPPO -------------------------------------------------------------------------------------------


def test_sppo_by_hand(group):
    # eta = 4: targets 4 (1 - 1/2) = 2 and 4 (1/4 - 1/2) = -1; errors 1 and -2; mean of 1 and 4
    scores = group([3.0, -3.0], [1.0, 0.25], "previous")
    assert Sppo(eta=4.0)(scores).value.item() == pytest.approx(2.5)
    assert slopes(Sppo(eta=4.0), scores) == pytest.approx([1, -2])


def test_sppo_hard_by_hand(group):
    # eta = 4: (3 - 2)^2 + (-3 + 2)^2
    scores = group([3.0, -3.0], None, "previous")
    assert SppoHard(eta=4.0)(scores).value.item() == pytest.approx(2)
    assert slopes(SppoHard(eta=4.0), scores) == pytest.approx([2, -2])


def test_sppo_hard_is_twice_sppo_with_certain_win_rates(group):
    scores = group([0.7, -1.9], [1.0, 0.0], "previous")
    assert SppoHard(eta=3.0)(scores).value.item() == pytest.approx(2 * Sppo(eta=3.0)(scores).value.item())


def fit(objective, rows, previous):
    """The minimiser over policies, started at the previous one."""
    logp = minimise(objective, *rows, start=previous.log_probs(), anchors={"previous": previous.log_probs()})
    return TabularPolicy(logp)


def deviation(objective, rows, previous, target) -> float:
    return float((fit(objective, rows, previous).probs() - target.probs()).abs().max())


@pytest.mark.parametrize("seed", range(4))
def test_sppo_minimiser_is_multiplicative_weights_up_to_the_assumed_partition(groups, seed):
    # stationary: lr = eta (P - 1/2) - c exp(lr) with one c for all responses; c = 0 would be the exact update
    game = zoo.random(5, seed)
    start = game.initial()
    new = fit(Sppo(eta=1.0), groups(game.win(start), start), start)
    ratio = new.log_probs() - start.log_probs()
    c = (game.win(start) - 0.5 - ratio) / ratio.exp()
    assert c.max() - c.min() < 1e-9
    assert 1e-3 < c.mean() < 1e-1
    # so the log-ratios are off by c (exp(lr) - 1) + const: at a whole step of eta = 1, still below 2e-3
    assert 1e-5 < (new.probs() - step.mwu_step(game, start, eta=1.0).probs()).abs().max() < 2e-3


@each_game
def test_sppo_error_is_of_third_order_in_the_step(game, groups):
    start = game.initial()
    rows = groups(game.win(start), start)
    wide, narrow = (
        deviation(Sppo(eta=eta), rows, start, step.mwu_step(game, start, eta=eta)) for eta in (0.1, 0.05)
    )
    assert wide / narrow == pytest.approx(8, rel=0.1)


def test_sppo_targets_have_mean_zero_and_a_tie_moves_nothing(groups):
    for game in GAMES.values():
        policy = some_policy(game.actions, 1)
        assert (policy.probs() * (game.win(policy) - 0.5)).sum().abs() < 1e-15
    tied = groups(torch.full((1, 3), 0.5, dtype=DOUBLE), uniform(3))
    here = at(uniform(3), previous=uniform(3))
    assert gradient(Sppo(eta=1000.0), tied, **here).abs().max() == 0


# GPO --------------------------------------------------------------------------------------------


def test_gpo_by_hand(group):
    # beta = 1/2: targets 2 and -4; errors 1 and 1
    scores = group([3.0, -3.0], [1.0, -2.0], "previous")
    assert Gpo(beta=0.5)(scores).value.item() == pytest.approx(1)
    assert slopes(Gpo(beta=0.5), scores) == pytest.approx([1, 1])


def test_gpo_is_sppo_with_the_half_taken_off(group):
    ratios, wins = [0.3, -1.2, 2.0], [0.9, 0.2, 0.5]
    skew = [w - 0.5 for w in wins]
    got = Gpo(beta=0.25)(group(ratios, skew, "previous")).value
    assert torch.allclose(got, Sppo(eta=4.0)(group(ratios, wins, "previous")).value)


def test_gpo_minimiser_tends_to_the_exponential_tilt_by_the_score(groups):
    start = BRPS.initial()
    score = torch.einsum("xab,xb->xa", torch.logit(BRPS.preference), start.probs())
    assert (start.probs() * score).sum().abs() < 1e-15
    tilt = step.gpo_step(BRPS, start, eta=1.0)
    assert tilt.probs()[0].tolist() == pytest.approx([0.842562, 0.041660, 0.115778], abs=1e-6)
    wide, narrow = (
        deviation(Gpo(beta=beta), groups(score, start), start, step.gpo_step(BRPS, start, eta=1 / beta))
        for beta in (50.0, 100.0)
    )
    assert wide / narrow == pytest.approx(8, rel=0.1)


# DNO --------------------------------------------------------------------------------------------


def test_dno_by_hand(group):
    # eta = 1/2: u = 1; label sigma(2 - 1)
    scores = group([3.0, 1.0], [2.0, 1.0], "previous")
    s = 1 / (1 + math.exp(-1))
    assert Dno(eta=0.5)(scores).value.item() == pytest.approx(-s * math.log(s) - (1 - s) * math.log(1 - s))
    assert slopes(Dno(eta=0.5), scores) == pytest.approx([0, 0], abs=1e-15)  # the fit is exact: sigma(u) = s
    # a group is the mean over its pairs
    three = group([3.0, 1.0, 0.0], [2.0, 1.0, 5.0], "previous")
    pairs = [((3.0, 1.0), (2.0, 1.0)), ((3.0, 0.0), (2.0, 5.0)), ((1.0, 0.0), (1.0, 5.0))]
    values = [Dno(eta=0.5)(group(list(r), list(w), "previous")).value.item() for r, w in pairs]
    assert Dno(eta=0.5)(three).value.item() == pytest.approx(sum(values) / 3)


@each_game
def test_dno_target_holds_for_every_pair_distribution(game, groups):
    eta, start = 0.5, some_policy(game.actions, 1)
    target = step.dno_step(game, start, eta=eta)
    for samplers in ((2, 3), (4, 5, 6)):
        rows = groups(game.win(start), *(some_policy(game.actions, s) for s in samplers))
        assert gradient(Dno(eta=eta), rows, **at(target, previous=start)).abs().max() < 1e-10
        # scaling rewards and eta together keeps the target
        scaled = rows._replace(reward=3 * rows.reward)
        assert gradient(Dno(eta=3 * eta), scaled, **at(target, previous=start)).abs().max() < 1e-10
        assert gradient(Dno(eta=3 * eta), rows, **at(target, previous=start)).abs().max() > 1e-4


def test_dno_step_is_the_published_one_inpos_without_tau_and_improves(groups):
    eta, start = 0.5, BRPS.initial()
    new = fit(Dno(eta=eta), groups(BRPS.win(start), start, start), start)
    assert new.probs()[0].tolist() == pytest.approx([0.767822, 0.118013, 0.114165], abs=1e-6)
    anchors = {name: start.log_probs() for name in ("reference", "previous")}
    pairs = enumerate_pairs(BRPS, start.probs())
    inpo = minimise(Inpo(eta=eta, tau=0.0), *pairs, start=start.log_probs(), anchors=anchors)
    assert torch.allclose(new.log_probs(), inpo, rtol=0, atol=1e-8)
    won, floor = BRPS.value(new, start).item(), 0.5 + eta * kl(new, start).item()
    assert (won, floor) == pytest.approx((0.525699, 0.511938), abs=1e-6)


def test_dno_with_hard_targets_is_dpo(group):
    ratios = [0.4, -1.3]
    dpo = Dpo(beta=0.7)(group(ratios, None, "reference")).value.item()
    dno = Dno(eta=0.7)(group(ratios, [60.0, 0.0], "previous")).value.item()
    assert dno == pytest.approx(dpo, rel=1e-14)
