"""Learners against closed forms and bounds, and regret in self-play."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from equipoise.games import TabularPolicy, closed_form, gap0, mixture, zoo
from equipoise.games.repeated import no_regret
from equipoise.games.repeated import regret as rg
from equipoise.games.repeated.regret import Ftrl, PerturbedLeader, hedge, self_play

REGULARISERS = {"entropy": rg.ENTROPY, "l2": rg.L2, "log barrier": rg.LOG_BARRIER}
RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The arrays are tiny: a second thread only gets in the way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def simplex(count: int, actions: int, seed: int, sharp: float = 1.0) -> torch.Tensor:
    return torch.as_tensor(RNG(seed).dirichlet(np.full(actions, sharp), count)).clamp(min=1e-12)


def uniform(sequences: int, rounds: int, actions: int, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(RNG(seed).uniform(size=(sequences, rounds, actions)))


def power(curve: torch.Tensor, start: int) -> float:
    t = np.arange(start, len(curve) + 1)
    return float(np.polyfit(np.log(t), np.log(curve[start - 1 :].numpy()), 1)[0])


# --- responses


@pytest.mark.parametrize("name", REGULARISERS)
def test_the_dual_undoes_the_response_and_constants_do_nothing(name):
    respond, dual = REGULARISERS[name]
    p = simplex(200, 5, 0)
    assert torch.allclose(respond(dual(p)), p, atol=1e-14)
    z = torch.as_tensor(RNG(1).normal(size=(200, 5)))
    assert torch.allclose(respond(z + 1000), respond(z), atol=1e-12)


@pytest.mark.parametrize("name", REGULARISERS)
def test_a_response_beats_every_other_play(name):
    potential = {
        "entropy": lambda p: (p * p.log()).sum(-1),
        "l2": lambda p: p.square().sum(-1) / 2,
        "log barrier": lambda p: -p.log().sum(-1),
    }[name]
    z = 2 * torch.as_tensor(RNG(2).normal(size=(20, 1, 4)))
    found = REGULARISERS[name].respond(z).clamp(min=1e-300)
    near = 0.99 * found + 0.01 * simplex(500, 4, 3)
    for other in (simplex(500, 4, 4).expand(20, -1, -1), near):
        gain = (z * (other - found)).sum(-1) + potential(other) - potential(found)
        assert float(gain.min()) > 0


def test_the_log_barrier_has_a_closed_form_for_two_actions():
    """1/m + 1/(m + d) = 1 for losses that differ by d."""
    d = torch.as_tensor(10.0 ** RNG(0).uniform(-3, 5, 300))
    m = (2 - d + (d**2 + 4).sqrt()) / 2
    found = rg.log_barrier(torch.stack([7 + d, torch.full_like(d, 7)], dim=1))
    assert torch.allclose(found[:, 1], 1 / m, rtol=1e-8)  # the formula cancels at large d
    assert torch.allclose(found[:, 0], 1 / (m + d), rtol=1e-8, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e5, 1e12])
def test_the_log_barrier_agrees_with_bisection_and_never_gives_zero(scale):
    for actions in (2, 10, 300):
        z = scale * torch.as_tensor(RNG(actions).normal(size=(40, actions)))
        u = z - z.amin(dim=1, keepdim=True)
        low, high = torch.ones(40, 1, dtype=z.dtype), torch.full((40, 1), float(actions), dtype=z.dtype)
        for _ in range(60):
            middle = (low + high) / 2
            above = (1 / (u + middle)).sum(dim=1, keepdim=True) > 1
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        found = rg.log_barrier(z)
        assert torch.allclose(found, 1 / (u + low), rtol=1e-12, atol=0)
        assert float(found.min()) > 0


@pytest.mark.parametrize("eta", [1e-3, 0.1, 10.0])
def test_the_log_barrier_stays_positive_under_huge_negative_losses(eta):
    losses = -1e5 * uniform(20, 50, 6) ** 4
    plays = Ftrl(regulariser=rg.LOG_BARRIER, eta=eta)(losses)
    assert float(plays.min()) > 0 and torch.allclose(plays.sum(dim=2), torch.ones(20, 51, dtype=plays.dtype))
    assert float(hedge(eta)(losses).min()) == 0  # exponential weights underflow here


# --- one step: how much a play gains by knowing its loss, max_q { <p - q, l> - D(q, p)/eta }


def log_barrier_stability(p, loss, eta):
    q = rg.log_barrier(1 / p + eta * loss)
    return ((p - q) * loss).sum(-1) - (q / p - 1 - (q / p).log()).sum(-1) / eta.squeeze(-1)


def hedge_stability(p, loss, eta):
    return (p * loss).sum(-1) + (p.log() - eta * loss).logsumexp(-1) / eta.squeeze(-1)


def ratios(spread: str) -> tuple[float, float]:
    """Worst stability over eta sum p^2 l^2, and over eta Var_p(l), in 4e4 draws with losses down to -1e5."""
    first, second = [], []
    for actions in (2, 3, 5, 10):
        rng, shape = RNG(actions), (10_000, actions)
        p = simplex(*shape, actions)
        eta = torch.as_tensor(10.0 ** rng.uniform(-3, 1, (10_000, 1)))
        loss = {
            "of one size": -(10.0 ** rng.uniform(-1, 5, (10_000, 1))) * rng.uniform(size=shape),
            "of all sizes": -(10.0 ** rng.uniform(-1, 5, shape)),
        }[spread]
        loss = torch.as_tensor(loss)
        gain, step = log_barrier_stability(p, loss, eta), eta.squeeze(1)
        mean = (p * loss).sum(dim=1, keepdim=True)
        first.append(gain / (step * (p * loss).square().sum(dim=1)))
        second.append(gain / (step * (p * (loss - mean).square()).sum(dim=1)))
    return float(torch.cat(first).max()), float(torch.cat(second).max())


def test_the_log_barrier_is_stable_under_any_loss():
    """Stability <= (eta/2) Var_p(l) with no lower bound on l; the draws never pass half of that.

    Proof: D(q, p) >= sum (q - p)^2/(2 p), as x - 1 - log x >= p (x - 1)^2/2 for x <= 1/p.

    Against eta sum p^2 l^2, the term without a simplex, no constant bounds the ratio: its worst depends on the
    draws, 6.9 if the losses of a round are of one size and hundreds if they are not.
    """
    squares, variance = ratios("of one size")
    assert squares == pytest.approx(6.85, rel=0.01)
    assert 0.24 < variance < 0.25 + 1e-6
    squares, variance = ratios("of all sizes")
    assert squares > 100
    assert 0.24 < variance < 0.25 + 1e-6


def test_a_single_coordinate_is_stable_above_minus_one_half():
    a = torch.linspace(-0.5, 50, 10_001, dtype=torch.float64)
    assert bool((a - a.log1p() <= a**2).all())


def test_exponential_weights_need_losses_above_minus_one_over_eta():
    eta, p = torch.full((2000, 1), 0.5, dtype=torch.float64), simplex(2000, 4, 0)
    bound = lambda loss: 0.5 * (p * loss.square()).sum(dim=1)  # noqa: E731
    mild, wild = -2 * torch.as_tensor(RNG(1).uniform(size=(2000, 4))), -50 * simplex(2000, 4, 2, 0.3)
    assert bool((hedge_stability(p, mild, eta) <= bound(mild)).all())
    broken = hedge_stability(p, wild, eta) > bound(wild)
    assert 0.02 < float(broken.double().mean()) < 0.5
    assert bool((log_barrier_stability(p, wild, eta) <= bound(wild)).all())


def test_the_log_barrier_bound_holds_for_losses_of_any_size():
    """sum <p_t - u, l_t> <= (Psi(u) - Psi(p_1))/eta + eta sum_t sum_i p_{t,i} l_{t,i}^2."""
    losses = 1 - 1e4 * uniform(300, 40, 5) ** 20
    target = simplex(300, 5, 1)
    for eta in (1e-4, 1e-2, 1.0):
        plays = Ftrl(regulariser=rg.LOG_BARRIER, eta=eta)(losses)[:, :40]
        regret = (losses * (plays - target.unsqueeze(1))).sum(dim=(1, 2))
        start = 5 * math.log(5)
        bound = (-target.log().sum(dim=1) - start) / eta + eta * (plays * losses**2).sum(dim=(1, 2))
        assert bool((regret <= bound).all())


def test_the_magnitude_reduced_estimate_is_unbiased_and_bounded_below():
    """A linear bandit: z = <phi_a, S^-1 phi_a'> l(a') for a' drawn from p has mean l, and huge negatives."""
    rng = RNG(0)
    phi, p = torch.as_tensor(rng.normal(size=(6, 2))), simplex(1, 6, 3, 0.3)[0]
    cost = (phi @ torch.as_tensor(rng.normal(size=2))).abs()
    covariance = torch.einsum("a,ai,aj->ij", p, phi, phi)
    z = phi @ torch.linalg.solve(covariance, phi.T) * cost  # [action, drawn action]
    least = z.clamp(max=0) @ p
    reduced = rg.magnitude_reduced(z, least.unsqueeze(1))
    assert torch.allclose(reduced @ p, z @ p, atol=1e-12)
    assert bool((reduced >= least.unsqueeze(1)).all())
    assert float(z.min()) < 3 * float(reduced.min()) < 0


# --- learners


def test_hedge_is_multiplicative_weights():
    losses, start = uniform(3, 30, 4), simplex(3, 4, 1)
    p = [start]
    for t in range(30):
        grown = p[-1] * torch.exp(-0.7 * losses[:, t])
        p.append(grown / grown.sum(dim=1, keepdim=True))
    assert torch.allclose(hedge(0.7, start=start)(losses), torch.stack(p, dim=1), atol=1e-14)


def test_self_play_meets_the_exact_steps():
    game = zoo.brps()
    policy, lazy = game.initial(), game.initial()
    optimistic, plain = game.initial(), self_play(game, hedge(0.5, start=game.reference), 20)
    clever = self_play(game, hedge(0.5, optimistic=True, start=game.reference), 20)
    for t in range(20):
        assert torch.allclose(plain.plays[:, t], policy.probs(), atol=1e-13)
        assert torch.allclose(clever.plays[:, t], optimistic.probs(), atol=1e-13)
        policy = closed_form.mwu_step(game, policy, eta=0.5)
        lazy, optimistic = closed_form.onpo_step(game, lazy, optimistic, eta=0.5)


LEARNERS = {
    **{name: Ftrl(regulariser=one, eta=0.8) for name, one in REGULARISERS.items()},
    "anytime": Ftrl(regulariser=rg.L2, eta=0.8, anytime=True, optimistic=True),
    "leader": rg.follow_the_leader,
    "perturbed": PerturbedLeader(eta=0.8, draws=3, seed=5),
    "attention": no_regret.learner(no_regret.LinearAttention(3)),
    "transformer": no_regret.learner(no_regret.Transformer(3)),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_play_depends_on_earlier_losses_only(name):
    losses, learner = uniform(4, 12, 3), LEARNERS[name]
    plays = learner(losses)
    assert plays.shape == (4, 13, 3)
    assert torch.allclose(plays.sum(dim=2), torch.ones(4, 13, dtype=plays.dtype)) and float(plays.min()) >= 0
    for t in (0, 1, 7):
        assert torch.allclose(learner(losses[:, :t]), plays[:, : t + 1], atol=1e-14)


def test_the_perturbed_leader_plays_hedge_on_average():
    losses, draws = uniform(2, 6, 4), 4000
    exact = hedge(1.5)(losses)
    found = PerturbedLeader(eta=1.5, draws=draws, seed=1)(losses)
    error = (exact * (1 - exact) / draws).sqrt()
    z = (found - exact) / error
    assert float(z.abs().max()) < 4 and 0.7 < float(z.std()) < 1.3


@pytest.mark.parametrize("eta", [0.05, 0.5, 2.0])
def test_hedge_stays_below_its_bound(eta):
    start = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    sequences = torch.cat([uniform(50, 200, 3).round(), rg.alternating(200, 3)])
    regret = rg.external_regret(sequences, hedge(eta, start=start)(sequences))[:, -1]
    best = sequences.sum(dim=1).argmin(dim=1)
    assert bool((regret <= -start[best].log() / eta + eta * 200 / 8).all())


def test_anytime_hedge_stays_below_its_bound_in_every_round():
    """Reg_t <= sqrt(t log A) for eta_t = 2 sqrt(log A/t): log A/eta_t + sum eta_s/8."""
    sequences = torch.cat([uniform(50, 400, 5, seed).round() for seed in range(3)])
    learner = Ftrl(regulariser=rg.ENTROPY, eta=2 * math.sqrt(math.log(5)), anytime=True)
    regret = rg.external_regret(sequences, learner(sequences))
    assert bool((regret <= (torch.arange(1, 401) * math.log(5)).sqrt()).all())


def test_a_step_must_be_positive():
    with pytest.raises(ValueError, match="eta must be positive"):
        hedge(0.0)


# --- regret


def test_a_constant_play_has_no_negative_regret_and_the_best_has_none():
    losses = uniform(30, 50, 4)
    fixed = simplex(30, 4, 0).unsqueeze(1).expand(30, 50, 4)
    best = rg.leader(losses.sum(dim=1)).unsqueeze(1).expand(30, 50, 4)
    assert float(rg.external_regret(losses, fixed).min()) >= 0
    assert rg.external_regret(losses, best)[:, -1].abs().max() < 1e-12
    hindsight = rg.leader(losses)
    assert rg.dynamic_regret(losses, hindsight).abs().max() < 1e-12
    assert float((rg.dynamic_regret(losses, fixed) - rg.external_regret(losses, fixed)).min()) > -1e-12


def test_regret_by_hand():
    losses = torch.tensor([[[0.5, 0.0], [0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    assert torch.equal(losses, rg.alternating(3))
    plays = rg.follow_the_leader(losses)
    assert plays[0, :, 0].tolist() == [1, 0, 1, 0]  # pays 1/2, 1, 1; the best action pays 1
    assert rg.external_regret(losses, plays)[0].tolist() == [0.5, 1.0, 1.5]
    assert rg.dynamic_regret(losses, plays)[0].tolist() == [0.5, 1.5, 2.5]
    with pytest.raises(ValueError, match="do not match losses"):
        rg.external_regret(losses, plays[:, :2])


def test_the_leader_has_linear_regret_where_hedge_has_a_root():
    losses = rg.alternating(2000)
    leader = rg.external_regret(losses, rg.follow_the_leader(losses))[0]
    assert float(leader[-1]) == pytest.approx(1000, abs=1)
    assert power(leader, 20) == pytest.approx(1, abs=0.01)
    anytime = {r: Ftrl(regulariser=REGULARISERS[r], eta=1.0, anytime=True) for r in REGULARISERS}
    for learner in anytime.values():
        regret = rg.external_regret(losses, learner(losses))[0]
        assert power(regret, 20) == pytest.approx(0.5, abs=0.05) and float(regret[-1]) < 30
    assert float(rg.trend_p_value(leader.unsqueeze(0))) > 0.5
    assert float(rg.trend_p_value(rg.external_regret(losses, anytime["l2"](losses)))) < 1e-6


def test_the_trend_test_is_a_sign_test():
    falling = torch.tensor([[1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)  # Reg_t/t falls three times of three
    assert rg.trend_p_value(falling).item() == pytest.approx(1 / 8)
    growing = torch.tensor([[1.0, 4.0, 9.0, 16.0]], dtype=torch.float64)
    assert rg.trend_p_value(growing).item() == pytest.approx(1)


# --- self-play


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("game", [zoo.rps(), zoo.prompts(5, 3, 1)], ids=["rps", "prompts"])
def test_regret_is_the_gap_of_the_mean(name, game):
    played = self_play(game, LEARNERS[name], 25)
    regret = rg.external_regret(*played)[:, -1]
    assert torch.allclose(gap0(game, played.mean()), 2 * regret / 25, atol=1e-14)


def test_regret_is_the_gap_of_the_mean_for_the_methods_of_self_play():
    game = zoo.brps()
    lazy = policy = game.initial()
    onpo = []
    for _ in range(30):
        onpo.append(policy)
        lazy, policy = closed_form.onpo_step(game, lazy, policy, eta=0.5)

    def repeat(step):
        found = [game.initial()]
        for _ in range(29):
            found.append(step(game, found[-1]))
        return found

    inpo = repeat(lambda g, p: closed_form.inpo_step(g, p, eta=0.5, tau=0.1))
    sppo = repeat(lambda g, p: closed_form.mwu_step(g, p, eta=0.5))
    for policies in (onpo, inpo, sppo):
        plays = torch.stack([p.probs() for p in policies], dim=1)
        losses = torch.stack([0.5 - game.win(p) for p in policies], dim=1)
        regret = rg.external_regret(losses, plays)[0, -1]
        assert gap0(game, mixture(policies)).item() == pytest.approx(2 * regret.item() / 30, abs=1e-14)


def test_optimism_keeps_the_regret_bounded():
    """On rps, eta 1/2: 2 Reg_T = T gap(mean) is 3.5 after 500 and 1000 rounds; plain Hedge's keeps growing."""
    game = zoo.rps()
    clever = self_play(game, hedge(0.5, optimistic=True, start=game.reference), 1000)
    twice = 2 * rg.external_regret(*clever)[0]
    assert twice[499].item() == pytest.approx(3.5, abs=0.1) and twice[999].item() == pytest.approx(
        3.5, abs=0.1
    )
    last = TabularPolicy.from_probs(clever.plays[:, -1])
    assert gap0(game, last).item() == pytest.approx(1.3e-5, rel=0.03)
    plain = 2 * rg.external_regret(*self_play(game, hedge(0.5, start=game.reference), 1000))[0]
    assert plain[999].item() > 20
