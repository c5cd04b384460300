"""The rules of the claims on convergence, on evidence made to break them, and the simulations' gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.claims.convergence import apo, classes, dno, egpo, mpo, onpo
from equipoise.claims.convergence.cycles import NEVER, cycles, follow, spaced
from equipoise.claims.convergence.egpo_runs import (
    EGPO,
    METHODS,
    NASH_MD,
    NASH_MD_PG,
    OMD,
    ONLINE_IPO,
    Round,
    Setting,
    own_pairs,
    play,
    policy_gradient,
    regression,
)
from equipoise.claims.likelihood import sppo
from equipoise.core.objectives import Egpo, Ipo, Reinforce
from equipoise.games import Comparisons, TabularPolicy, enumerate_pairs, gap_tau, zoo
from equipoise.games.fit import gradient
from equipoise.methods.index import get
from equipoise.worlds.table.play_game import play_game


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Thousands of products of tiny matrices: a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- shared


def test_followed_policies_are_those_of_play_game():
    game = cycles()
    seen, average = follow(game, "mpo", {"every": 7}, 20, {5, 20})
    trace = play_game(game, get("mpo").with_parameters({"every": 7}), rounds=20)
    assert seen[20].probs().tolist() == trace["policy"] and set(seen) == {5, 20}
    assert average.probs().tolist() == [pytest.approx(row) for row in trace["average_policy"]]
    assert spaced(100)[0] == 1 and {50, 100} <= set(spaced(100))


# --- classes


def found(expected, kl=1.0, gap=0.5, moved=0.1, average=0.3, kl0=(1.0, 2.0)):
    entry = classes.Entry("inpo", {"eta": 1.0}, expected)
    return classes.Found(entry, "rps", (1, 2), (1.0, kl), kl0, (0.5, gap), average, moved)


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (found(None, kl=1e-12), classes.REGULARISED),
        (found(None, gap=1e-6), classes.PLAIN),
        (found(None, moved=1e-9), classes.BIASED),
        (found(None, average=0.05), classes.AVERAGE),
        (found(None, average=0.05, kl0=(2.0, 1.0)), classes.NEITHER),
        (found(None), classes.NEITHER),
    ],
)
def test_a_run_is_put_in_its_class(run, kind):
    assert run.kind == kind


def test_the_rule_of_the_classes():
    right = found(classes.REGULARISED, kl=1e-12)
    assert classes.judge([right, found(None)]).verdict == "holds"
    wrong = classes.judge([right, found(classes.PLAIN)])
    assert wrong.verdict == "fails" and "inpo, eta 1 on rps: no limit" in wrong.summary


# --- EGPO


def test_gradients_are_those_of_the_core_losses():
    """Uniform pairs under `Egpo`, own pairs under `Ipo` (on its scale), own samples under `Reinforce`."""
    game, beta = zoo.random(6, 2), 0.3
    policy, other = zoo.random(6, 5).initial(), zoo.random(6, 7).initial()
    now = Round(
        game.preference,
        game.reference.log(),
        policy.log_probs(),
        other.probs(),
        beta,
        0,
        torch.Generator(),
    )

    def core(objective, rows):
        return gradient(
            objective, rows, start=policy.log_probs(), anchors={"reference": game.reference.log()}
        )

    even = torch.full((1, 6), 1 / 6, dtype=torch.float64)
    rows, win = enumerate_pairs(game, even), game.win(other)[0]
    rewarded = rows._replace(reward=win[rows.responses], prob=None)
    assert torch.allclose(regression(now), core(Egpo(beta=beta), rewarded), atol=1e-13)
    assert torch.allclose(
        own_pairs(now), core(Ipo(tau=beta), enumerate_pairs(game, policy.probs())), atol=1e-13
    )
    one = Comparisons(
        torch.zeros(6, dtype=torch.int64),
        torch.arange(6).unsqueeze(1),
        policy.probs()[0],
        None,
        win.unsqueeze(1),
    )
    assert torch.allclose(policy_gradient(now), core(Reinforce(tau=beta), one), atol=1e-13)


@pytest.mark.parametrize("form", [regression, own_pairs, policy_gradient])
def test_sampled_gradients_average_to_the_exact_ones(form):
    game = zoo.random(5, 1)
    now = Round(
        game.preference,
        game.reference.log(),
        zoo.random(5, 2).initial().log_probs(),
        zoo.random(5, 3).initial().probs(),
        0.5,
        0,
        torch.Generator().manual_seed(0),
    )
    sampled = form(replace(now, samples=400_000))
    assert torch.allclose(sampled, form(now), atol=0.02)
    assert sampled.sum().abs() < 1e-10  # a gradient in logits sums to zero


@pytest.mark.parametrize(("name", "method"), [(EGPO, "egpo"), (OMD, "omd"), (NASH_MD, "nash_md")])
def test_simulated_rounds_are_the_methods_closed_forms(name, method):
    setting = Setting("s", beta=0.1, rounds=25, lr=0.1)
    parameters = {"eta": setting.eta} | ({"tau": 0.1} if method == "nash_md" else {"beta": 0.1})
    simulated = play(setting, name, {25})[25]
    for seed in (0, 3):
        game = zoo.random(10, seed)
        policy = play_game(game, get(method).with_parameters(parameters), rounds=25, exact=True)["policy"]
        gap = gap_tau(game, TabularPolicy.from_probs(policy), 0.1)
        assert float(simulated[seed]) == pytest.approx(float(gap), rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_network_learns_from_the_same_gradients(name):
    setting = Setting("n", beta=0.1, rounds=20, lr=0.1, neural=True)
    gaps = play(setting, name, {1, 20})
    assert (gaps[20] < gaps[1]).all()


def judged_egpo(changes=None, settings=egpo.SETTINGS[: egpo.QUICK]):
    gaps = {(s, m): np.full((3, 2), 1e-14) for s in settings for m in METHODS}
    for s in settings:
        gaps[s, NASH_MD] = np.full((3, 2), 1e-4)
        gaps[s, NASH_MD_PG] = gaps[s, ONLINE_IPO] = np.full((3, 2), 0.1)
    gaps[egpo.JUDGED[1], OMD] = np.array([[0.1, 0.1]] * 3)
    gaps |= changes or {}
    return egpo.judge([egpo.Run(s, m, (1, 2, 4), g) for (s, m), g in gaps.items()]).verdict


def test_the_rule_of_egpo():
    first, second = egpo.JUDGED
    low, high = np.full((3, 2), 1e-14), np.array([[1e-14, 1e-6]] * 3)
    assert judged_egpo() == "holds"
    assert judged_egpo({(second, EGPO): high}) == "fails"
    assert judged_egpo({(second, OMD): low}) == "mixed"
    assert judged_egpo({(first, NASH_MD): low}) == "mixed"
    noisy = egpo.SETTINGS[-1]
    everywhere = (*egpo.JUDGED, noisy)
    assert judged_egpo({(noisy, EGPO): np.full((3, 2), 1e-5)}, everywhere) == "mixed"


# --- ONPO, MPO, APO, DNO


def onpo_runs(kl=lambda t: np.exp(-0.01 * t), spent=lambda t: 3.0 + 0 * t, mwu=1.0):
    t = np.arange(1, 2001)
    rounds, gap = tuple(t.tolist()), tuple((spent(t) / t).tolist())
    still = tuple(np.linspace(0.5, 0.5 + mwu, 2000).tolist())
    learners = [("ONPO", tuple(kl(t).tolist())), ("MWU", still)]
    return [onpo.Run(name, "rps", 0.125, rounds, kls, gap, gap) for name, kls in learners]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"kl": lambda t: 1 / t}, "fails"),
        ({"kl": lambda t: 0.3 + 0 * t}, "fails"),
        ({"spent": lambda t: t**0.5}, "mixed"),
        ({"mwu": -0.4}, "mixed"),
    ],
)
def test_the_rule_of_onpo(change, expected):
    assert onpo.judge(onpo_runs(**change)).verdict == expected


@pytest.mark.parametrize(
    ("moving", "fixed", "worst", "expected"),
    [
        (1e-6, 0.2, 0.98, "holds"),
        (1e-2, 0.2, 0.98, "fails"),
        (1e-6, 0.1, 0.98, "mixed"),
        (1e-6, 0.2, 0.995, "mixed"),
    ],
)
def test_the_rule_of_mpo(moving, fixed, worst, expected):
    ends = dict(zip(mpo.SETTINGS, (moving, fixed, 0.3, 0.9), strict=True))
    runs = [mpo.Run(*setting, "rps", (1, 2), (0.5, gap)) for setting, gap in ends.items()]
    evidence = mpo.judge(runs, {"rps": 0.2}, [("rps", worst, 0.99)])
    assert evidence.verdict == expected
    assert evidence.tables[0].rows[1][3] == "never" and mpo.SETTINGS[1][2] == NEVER


def test_the_rule_of_apo():
    t = np.arange(apo.ROUNDS + 1)

    def falling(speed):
        # the first fit is the plain one, whatever the speed
        return np.tile(np.exp(-np.where(t < 2, t, 1 + speed * (t - 1)) * 0.8), (3, 1))

    regret = {a: falling(1 / (1 - a)) for a in apo.ALPHAS}
    cycle = {a: ([1, 2], [0.4, 0.6]) for a in apo.ALPHAS[:2]}
    assert apo.judge(1e-15, regret, cycle).verdict == "holds"
    assert apo.judge(1e-3, regret, cycle).verdict == "fails"
    assert apo.judge(1e-15, {**regret, 0.3: falling(0.9)}, cycle).verdict == "fails"
    assert apo.judge(1e-15, {**regret, 0.6: falling(1.2)}, cycle).verdict == "mixed"


def test_the_speed_up_is_a_ratio_of_rounds():
    slow = np.exp(-0.5 * np.arange(41.0))[None]
    assert apo.speed_up(slow, slow**1.7) == pytest.approx(1.7)


def test_the_rule_of_dno():
    run = dno.play("the two cycles", cycles(), 0.5)
    fell = np.stack([run.start, run.start - 0.2 + np.array([0.0, 0.001])])
    runs = [replace(run, eta=eta, gap=fell) for eta in dno.STEPS]
    assert dno.judge(runs).verdict == "holds"
    assert (
        dno.judge([replace(run, eta=dno.STEPS[0]), *runs[1:]]).verdict == "fails"
    )  # the gap of a cycle grows
    assert dno.judge([replace(runs[0], bound=run.bound + 0.1), *runs[1:]]).verdict == "fails"
    assert dno.judge([replace(runs[0], exact=run.exact + 0.1), *runs[1:]]).verdict == "fails"


# --- SPPO


def paths(sppo_at=0.2, ipo_at=-0.2, ipo_end=-1.0):
    """Three points each, chosen and margin: at the level of comparison all margins are 1."""
    noise = np.random.default_rng(0).normal(0, 0.01, (6, 1))

    def path(policy, loss, at, end):
        chosen = np.array([0.0, at, end]) + noise
        return sppo.Path(policy, loss, sppo.JUDGED, chosen, chosen - np.array([0.0, sppo.LEVEL, 3.0]))

    return [
        path(sppo.SHARED, "SPPO", sppo_at, 0.5),
        path(sppo.SHARED, "IPO", ipo_at, ipo_end),
        path(sppo.SHARED, "DPO", -0.3, -2.0),
        *(path(sppo.TABLE, loss, 0.5, 1.0) for loss in sppo.LOSSES),
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"sppo_at": -0.1}, "fails"),
        ({"ipo_at": 0.1}, "fails"),  # at an equal margin IPO raises it too
        ({"ipo_at": 0.3}, "fails"),
        ({"ipo_end": 1.0}, "mixed"),
    ],
)
def test_the_rule_of_sppo(change, expected):
    assert sppo.judge(paths(**change)).verdict == expected


def test_the_chosen_log_prob_at_an_equal_margin():
    path = sppo.Path("", "", 1.0, np.array([[0.0, -1.0]]), np.array([[0.0, -3.0]]))
    assert sppo.reached(path, 0.5).tolist() == pytest.approx([-0.25])  # margin 2 at the end, half of a half
    assert sppo.reached(path, 5.0).tolist() == [-1.0]


def test_pairs_are_the_best_and_the_worst_sample():
    world = sppo.draw(2)
    assert (world.rates[..., 0] >= world.rates[..., 1]).all()
    assert (world.rates[..., 0] >= 0.5).all() and (world.rates[..., 1] <= 0.5).all()
    assert 0 < float(world.use.mean()) <= 1
