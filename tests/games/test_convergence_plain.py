"""Methods for the plain game: which reach its Nash policy, which do on average only, and at what speed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.games import PreferenceGame, TabularPolicy, gap0, kl_to, nash, zoo
from equipoise.games import closed_form as step
from equipoise.methods.index import get
from equipoise.play.state import START
from equipoise.play.updates.basic import Extrapolated, Refit
from equipoise.worlds.table.play_game import play_game

# both cycles as two prompts of one game: prompt 0 is rps, prompt 1 is brps
BOTH = PreferenceGame(torch.cat([zoo.rps().preference, zoo.brps().preference]), zoo.SKEWED)
RPS = zoo.rps()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Thousands of products of tiny matrices: a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def played(name, rounds, game=BOTH, *, exact=None, tau=None, **parameters):
    method = get(name) if isinstance(name, str) else name
    return play_game(game, method.with_parameters(parameters), rounds=rounds, exact=exact, tau=tau)


def policy_of(run) -> torch.Tensor:
    return torch.tensor(run["policy"], dtype=torch.float64)


def gap_of_average(run, game=BOTH) -> list[float]:
    return gap0(game, TabularPolicy(torch.tensor(run["average_policy"], dtype=torch.float64).log())).tolist()


# --- multiplicative weights (SPPO, SPO, DNO): the average only


def test_multiplicative_weights_spiral_out_while_their_average_converges():
    """rps, 20000 rounds, steps 0.1, 0.5 and 1 as three prompts."""
    eta = torch.tensor([[0.1], [0.5], [1.0]], dtype=torch.float64)
    game = PreferenceGame(RPS.preference.expand(3, 3, 3).clone(), zoo.SKEWED)
    policy, star = game.initial(), nash(game)
    total, start = policy.probs(), kl_to(policy, star)
    for _ in range(19_999):  # the reference is pi_1
        policy = step.mirror_step(policy, eta * game.win(policy), step=1.0)
        total = total + policy.probs()
    grown = kl_to(policy, star)
    assert grown.tolist() == pytest.approx([3.1, 19.4, 39.7], abs=0.06)
    assert (grown > 7 * start).all()
    gaps = gap0(game, TabularPolicy((total / total.sum(dim=1, keepdim=True)).log()))
    assert gaps.tolist() == pytest.approx([0.0051, 0.0043, 0.0041], abs=6e-5)


def test_sppo_spo_and_dno_are_multiplicative_weights():
    runs = [policy_of(played(n, 20, **p)) for n, p in (("sppo", {"eta": 0.5}), ("dno", {"eta": 2.0}))]
    runs.append(policy_of(played("spo", 20, rate=0.5)))
    policy = BOTH.initial()
    for _ in range(20):
        policy = step.mwu_step(BOTH, policy, eta=0.5)
    assert all(torch.allclose(found, policy.probs(), atol=1e-13) for found in runs)


def test_sppo_fits_multiplicative_weights_up_to_the_log_partition_it_assumes():
    """Halving the step divides the deviation by four or more: log E exp(eta (P - 1/2)) is O(eta^2)."""
    off = []
    for eta in (1.0, 0.5, 0.25):
        exact, fitted = (policy_of(played("sppo", 1, exact=e, eta=eta)) for e in (True, False))
        off.append(float((exact - fitted).abs().max()))
    assert 0 < off[0] < 2e-3
    assert off[0] / off[1] > 3.9 and off[1] / off[2] > 3.9


@pytest.mark.parametrize("name", ["sppo", "spo", "dno", "onpo", "mpo"])
def test_the_plain_nash_policy_and_the_even_game_are_fixed_points(name):
    star = PreferenceGame(BOTH.preference, nash(BOTH).probs())
    even = PreferenceGame(torch.full((3, 3), 0.5, dtype=torch.float64), zoo.SKEWED)
    for game in (star, even):
        assert torch.allclose(policy_of(played(name, 3, game)), game.reference, atol=1e-13)


def test_the_gap_of_the_average_is_twice_the_mean_regret():
    """gap0(mean of pi_1..pi_T) = 2 Reg_T/T, and Hedge with step eta has Reg_T <= KL(y, pi_1)/eta + eta T/8."""
    rounds, eta = 300, 0.3
    policy, total = BOTH.initial(), torch.zeros_like(BOTH.reference)
    payoff = torch.zeros_like(total)
    for _ in range(rounds):
        payoff, total = payoff + BOTH.win(policy), total + policy.probs()
        policy = step.mwu_step(BOTH, policy, eta=eta)
    regret = payoff.amax(dim=1) - rounds / 2  # every round pays P(pi_t > pi_t) = 1/2
    average = TabularPolicy((total / rounds).log())
    assert torch.allclose(gap0(BOTH, average), 2 * regret / rounds, atol=1e-13)
    best = payoff.argmax(dim=1, keepdim=True)
    bound = -BOTH.reference.gather(1, best).log().squeeze(1) / eta + eta * rounds / 8
    assert (regret <= bound).all()


def test_spo_needs_one_player_and_ranks_bradley_terry_as_its_reward():
    first = second = BOTH.initial()
    for _ in range(30):  # two players, each against the other
        first, second = (
            step.mirror_step(first, BOTH.win(second), step=0.5),
            step.mirror_step(second, BOTH.win(first), step=0.5),
        )
    assert torch.equal(first.probs(), second.probs())
    assert torch.allclose(first.probs(), policy_of(played("spo", 30, rate=0.5)), atol=1e-13)
    assert torch.allclose(BOTH.value(first, first), torch.full((2,), 0.5, dtype=torch.float64), atol=1e-14)

    rewards = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    game = zoo.bradley_terry(rewards, zoo.bradley_terry(rewards.flip(0)).initial().probs())
    assert torch.equal(game.win(game.initial()).argsort(dim=1), rewards.argsort(dim=1))


def test_dno_improves_on_itself_in_every_round():
    """P(pi_{t+1} > pi_t) = 1/2 + eta log E_{pi_t} exp((r - 1/2)/eta) + eta KL(pi_{t+1} || pi_t), all terms >= 0."""
    eta, policy, found = 0.5, BOTH.initial(), []
    for _ in range(50):
        after = step.dno_step(BOTH, policy, eta=eta)
        rate, moved = BOTH.value(after, policy), eta * kl_to(policy, after)
        log_mean = eta * (policy.log_probs() + (BOTH.win(policy) - 0.5) / eta).logsumexp(dim=1)
        assert torch.allclose(rate, 0.5 + log_mean + moved, atol=1e-14)
        assert (log_mean >= 0).all() and (rate >= 0.5 + moved).all()
        found.append((float(rate[1]), float(0.5 + moved[1])))
        policy = after
    assert found[0] == pytest.approx((0.525699, 0.511938), abs=6e-7)
    assert (
        gap0(BOTH, policy) > gap0(BOTH, BOTH.initial())
    ).all()  # each beats the last; none is hard to beat


# --- ONPO: optimism reaches the Nash policy


@pytest.mark.parametrize(
    ("eta", "rounds", "expected"),
    [
        (0.5, 999, (1.3e-5, 1.95e-2)),
        (1.0, 999, (0.0, 5.6e-7)),
    ],
)
def test_onpo_reaches_the_nash_policy(eta, rounds, expected):
    """gap0 of pi_t on rps and brps; the reference is pi_1."""
    run = played("onpo", rounds, eta=eta)
    for gap, value in zip(run["by_prompt"]["gap0"], expected, strict=True):
        assert gap == pytest.approx(value, rel=0.03, abs=1e-7)


@pytest.mark.slow
def test_onpo_is_optimistic_multiplicative_weights_in_one_line():
    """log pi_{t+1} = log pi_t + eta (2 r_t - r_{t-1}) + const, r_0 = 0; its average has a gap of O(1/t)."""
    eta, game = 0.125, RPS
    lazy = policy = line = game.initial()
    before = torch.zeros_like(game.reference)
    total, bounded = torch.zeros_like(before), []
    gaps = {}
    for t in range(1, 20_000):
        payoff = game.win(policy)
        if t <= 2000:
            now = game.win(line)
            line = TabularPolicy(line.log_probs() + eta * (2 * now - before))
            before = now
        total += policy.probs()
        if t in (500, 2000, 8000, 19_999):
            bounded.append(t * float(gap0(game, TabularPolicy(total.log()))))
        lazy = step.mirror_step(lazy, payoff, step=eta)
        policy = step.mirror_step(lazy, payoff, step=eta)
        if t == 2000:
            assert (line.probs() - policy.probs()).abs().max() < 1e-12
        if t + 1 in (10_000, 20_000):
            gaps[t + 1] = float(gap0(game, policy))
    assert gaps[10_000] == pytest.approx(7.1e-4, rel=0.01)
    assert gaps[20_000] == pytest.approx(2e-6, rel=0.02)
    assert max(bounded) < 30 and bounded[2:] == pytest.approx(
        [14, 14], abs=0.1
    )  # 1/eta of them are spent early


@pytest.mark.slow
def test_the_average_gap_times_t_is_bounded_with_optimism_and_grows_without():
    for rounds, largest in ((500, 4.5), (2000, 4.5)):
        assert max(gap_of_average(played("onpo", rounds, eta=0.5))) * rounds < largest
    grown = [max(gap_of_average(played("sppo", rounds, eta=0.5))) * rounds for rounds in (500, 2000)]
    assert grown[0] > 8 and grown[1] > 1.5 * grown[0]


def test_onpo_without_its_second_fit_is_multiplicative_weights():
    one_fit = replace(get("onpo"), update=Refit(), anchors={"previous": START}, closed_form=None)
    found = policy_of(played(one_fit, 4, exact=False, eta=0.5))
    assert torch.allclose(found, policy_of(played("sppo", 4, exact=True, eta=0.5)), atol=1e-9)
    assert (found - policy_of(played("onpo", 4, eta=0.5))).abs().max() > 0.01


# --- MPO: a moving magnet


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [(100, (7.7e-2, 7.2e-2)), (500, (3.3e-5, 1.3e-3)), (1000, (3.1e-9, 1.7e-6))],
)
def test_a_moving_magnet_reaches_the_plain_nash_policy(rounds, expected):
    run = played("mpo", rounds, alpha=0.1, eta=1.0, every=50)
    assert run["by_prompt"]["gap0"] == pytest.approx(expected, rel=0.04)


def test_a_magnet_that_stays_stalls_at_the_regularised_nash_policy():
    run = played("mpo", 600, tau=0.1, alpha=0.1, eta=1.0, every=10_000)
    assert run["by_prompt"]["gap0"] == pytest.approx((0.205824, 0.196366), abs=6e-7)
    assert max(run["by_prompt"]["kl_to_nash"]) < 1e-12


def test_a_policy_gradient_towards_a_fixed_magnet_has_the_same_limit():
    run = played("mpo", 400, tau=0.1, exact=False, alpha=0.1, eta=1.0, every=10_000, rate=1.0)
    assert max(run["by_prompt"]["kl_to_nash"]) < 1e-9


def test_too_strong_a_magnet_is_slow():
    run = played("mpo", 5000, alpha=0.5, eta=0.5, every=200)
    assert run["by_prompt"]["gap0"] == pytest.approx((0.019, 0.112), abs=6e-4)


def test_limits_of_mpo():
    """Without a magnet multiplicative weights; a magnet that moves every round multiplies the pull of pi_t."""
    alone = policy_of(played("mpo", 10, alpha=0.0, eta=0.5))
    assert torch.allclose(alone, policy_of(played("sppo", 10, eta=0.5)), atol=1e-13)
    every_round = policy_of(played("mpo", 10, alpha=0.5, eta=0.5, every=1))
    assert torch.allclose(every_round, policy_of(played("sppo", 10, eta=0.4)), atol=1e-13)


# --- APO: extrapolation


def odds(rewards, reference, beta: float, alpha: float, t: int) -> torch.Tensor:
    """The closed form of the fit at round t, ref exp( (r/beta) sum_{k=1..t} (1 - alpha^k)/(1 - alpha) )/Z."""
    total = sum((1 - alpha**k) / (1 - alpha) for k in range(1, t + 1))
    return (reference.log() + rewards / beta * total).softmax(dim=-1)


DRAW = np.random.default_rng(0)
REWARDS, APO_REFERENCE = torch.from_numpy(DRAW.normal(size=4)), torch.from_numpy(DRAW.dirichlet(np.ones(4)))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7])
def test_apo_is_its_closed_form(alpha):
    """pi_t = fit_t (fit_t/fit_{t-1})^alpha, one unit of r/beta short of fit_{t+1}; at alpha = 0 iterative DPO."""
    game = zoo.bradley_terry(REWARDS, APO_REFERENCE)
    played_out = policy_of(played("apo", 6, game, beta=2.0, alpha=alpha))[0]
    ahead = odds(REWARDS, APO_REFERENCE, 2.0, alpha, 7)
    expected = (ahead.log() - REWARDS / 2).softmax(dim=0)
    assert (played_out - expected).abs().max() < 1e-12
    plain = policy_of(played("iterative_dpo", 6, game, beta=2.0))[0]
    assert torch.allclose(played_out, plain, atol=1e-12) is (alpha == 0)


def test_apo_is_faster_by_its_factor():
    """Four random arms, beta = 2: regret of the fit after 5, 10, 20 rounds; steps per round tend to 1/(1 - alpha)."""

    def lost(alpha: float) -> list[float]:
        rounds = (5, 10, 20)
        return [float(REWARDS.max() - odds(REWARDS, APO_REFERENCE, 2.0, alpha, t) @ REWARDS) for t in rounds]

    assert lost(0.3) == pytest.approx([0.216, 0.0351, 0.00069], rel=0.005)
    assert lost(0.0) == pytest.approx([0.291, 0.0946, 0.0060], rel=0.008)
    long = odds(REWARDS, APO_REFERENCE, 200.0, 0.3, 400), odds(REWARDS, APO_REFERENCE, 200.0, 0.0, 400)
    travelled = [float((p.log() - APO_REFERENCE.log())[[0, 1]].diff()) for p in long]
    assert travelled[0] / travelled[1] == pytest.approx(1 / 0.7, rel=0.01)


def test_acceleration_makes_a_cycle_grow_faster():
    """Multiplicative weights with step 0.1 on rps, 2000 rounds: KL(pi*, pi_t) 0.675, extrapolated 1.24."""
    accelerated = replace(get("sppo"), update=Extrapolated(alpha=0.3))
    for method, expected in (("sppo", 0.675), (accelerated, 1.24)):
        run = played(method, 2000, RPS, eta=0.1)
        assert run["kl_to_nash"][-1] == pytest.approx(expected, rel=0.002)
        assert gap_of_average(run, RPS)[0] < 0.1 < run["gap0"][-1]


# --- GPO


def test_gpo_on_a_bradley_terry_game_tilts_the_reference_by_the_reward():
    """s(y > pi) = r(y) - E_pi r: t rounds give ref exp(t r/beta)/Z, the path of reinforcement learning."""
    game = zoo.bradley_terry(REWARDS, APO_REFERENCE)
    found = policy_of(played("gpo", 7, game, beta=2.0))
    assert torch.allclose(found[0], (APO_REFERENCE.log() + 7 * REWARDS / 2).softmax(dim=0), atol=1e-13)
    fitted = policy_of(played("gpo", 1, game, exact=False, beta=50.0))
    exact = policy_of(played("gpo", 1, game, exact=True, beta=50.0))
    assert (fitted - exact).abs().max() < 1e-4 < (exact - game.reference).abs().max()
    assert math.isclose(float(exact.sum()), 1.0)
