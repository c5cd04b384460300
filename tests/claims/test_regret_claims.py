"""The rules of the regret claims, on evidence made to break them."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.claims.convergence import refined_regret, regret, regret_loss, simulator_free

T = (4, 8, 16, 32, 64, 128, 256)


def curve(against: str, learner: str, power: float, excess: float = 0.0) -> regret.Curve:
    found = np.tile(np.array(T, dtype=float) ** power, (3, 1))
    return regret.Curve(against, learner, T, found, 2 * found / np.array(T) + excess)


def self_play(played: float = 0.5, excess: float = 0.0, root: float = 0.5, linear: float = 1.0) -> str:
    faced = [
        curve(regret.ALTERNATING, regret.HEDGE, root),
        curve(regret.COINS, regret.HEDGE, 0.5),
        curve(regret.ALTERNATING, regret.LEADER, linear),
    ]
    return regret.judge_self_play([curve("rps", regret.HEDGE, played, excess)], faced).verdict


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"played": 0.0}, "holds"),
        ({"played": 1.0}, "fails"),
        ({"excess": 1e-6}, "fails"),  # the gap is larger than the bound
        ({"excess": -1e-6}, "mixed"),  # bounded, but not equal
        ({"root": 0.8}, "mixed"),
        ({"linear": 0.5}, "mixed"),
    ],
)
def test_the_rule_of_self_play(changes, expected):
    assert self_play(**changes) == expected


def layer(rounds: int, power: float, leader: float, distance: float, apart: float) -> regret_loss.Layer:
    powers = {regret_loss.TRAINED: power, regret_loss.LEADER: leader}
    names = (regret_loss.TRAINED, regret_loss.FTRL, regret_loss.LEADER, regret_loss.UNTRAINED)
    found = {(regret_loss.ALTERNATING, name): rounds ** powers.get(name, 0.5) for name in names}
    return regret_loss.Layer(rounds, 0, rounds**-0.5, distance, apart, found, {regret_loss.ALTERNATING: 1.0})


def trained(
    power: float = 0.5, leader: float = 1.0, distance: float = 0.01, apart: float = 0.01, step: float = 0.11
):
    layers = [layer(t, power, leader, distance, apart) for t in (8, 8, 16, 16, 32, 32)]
    near, plain = [(step, 0.02)], [(0.11, 0.02), (0.05, 0.9)]
    met = [{regret_loss.ALTERNATING: (4.0, 2.0)}, {regret_loss.ALTERNATING: (2.0, 1.0)}]
    return regret_loss.judge_regret_loss(layers, 0.11, near, plain, met)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"power": 1.0}, "fails"),
        ({"leader": 0.5}, "mixed"),
        ({"distance": 0.2}, "mixed"),
        ({"apart": 0.1}, "mixed"),
        ({"step": 0.2}, "mixed"),  # not the theorem's step
    ],
)
def test_the_rule_of_the_regret_loss(changes, expected):
    assert trained(**changes).verdict == expected


def test_what_the_regret_loss_shows():
    evidence = trained()
    assert "only 1 of 2 layers" in evidence.summary and "power -0.50" in evidence.summary
    starts, transformers = evidence.tables[2:]
    assert [row[2] for row in starts.rows] == [1, 0, 1, 1] and starts.rows[1][3:] == (None, None)
    assert transformers.rows == ((regret_loss.ALTERNATING, 3.0, 1.5),)


def test_unseen_losses_lie_between_zero_and_one_and_a_start_is_the_first_play():
    for losses in regret_loss.unseen(12, 20).values():
        assert float(losses.min()) >= 0 and float(losses.max()) <= 1
    for game in regret.games(4).values():
        for name in (regret.HEDGE, regret.PROJECTED, regret.OPTIMISTIC):
            play = regret.learner_for(name, game.actions, game.reference)
            first = play(game.reference.new_zeros(4, 0, game.actions))[:, 0]
            assert np.allclose(first, game.reference, atol=1e-12)


def refined(powers: dict[str, float], **changes: float) -> str:
    found = [
        refined_regret.Curve(against, name, T, np.tile(np.array(T, dtype=float) ** power, (3, 1)), 0.0)
        for against in (refined_regret.PLANTED, refined_regret.BLOCKS)
        for name, power in powers.items()
    ]
    exact = {"lemma": -0.1, "violated": 3, "means": 1e-16, "under": -1e-3} | changes
    return refined_regret.judge(found, refined_regret.Identities(**exact)).verdict


@pytest.mark.parametrize(
    ("power", "plain", "changes", "expected"),
    [
        (0.5, 0.68, {}, "holds"),
        (0.67, 0.8, {}, "fails"),
        (0.5, 0.5, {}, "mixed"),  # plain estimates cost no more
        (0.5, 0.68, {"lemma": 0.01}, "mixed"),
        (0.5, 0.68, {"violated": 0}, "mixed"),
        (0.5, 0.68, {"means": 1e-3}, "mixed"),
        (0.5, 0.68, {"under": 1e-3}, "mixed"),
    ],
)
def test_the_rule_of_refined_regret(power, plain, changes, expected):
    powers = {refined_regret.BARRIER: power, refined_regret.REDUCED: 0.4, refined_regret.PLAIN: plain}
    assert refined(powers, **changes) == expected


def own_paths(power: float, level: float, reduced: float, noise: float = 0.0) -> str:
    rest = np.array([1 - noise, 1, 1 + noise])[:, None]
    found = []
    for against in (refined_regret.PLANTED, refined_regret.BLOCKS):
        for name, exponent in ((refined_regret.BARRIER, power), (refined_regret.REDUCED, reduced)):
            each = level * np.array(T, dtype=float) ** (exponent - 1) * rest
            plans = ((2, 0.1),) * len(T)
            found.append(simulator_free.Course(against, name, T, each, np.ones((3, len(T))), plans))
    return simulator_free.judge(found).verdict


@pytest.mark.parametrize(
    ("power", "level", "reduced", "noise", "expected"),
    [
        (0.75, 1.0, 0.75, 0.0, "holds"),
        (1.01, 0.5, 0.75, 0.0, "fails"),  # as much in every episode
        (0.75, 4.0, 0.75, 0.0, "fails"),  # the uniform policy costs less
        (0.95, 1.0, 0.75, 0.0, "mixed"),  # above the paper's rate
        (0.75, 1.0, 1.01, 0.0, "mixed"),
        (0.75, 1.0, 0.75, 0.1, "holds"),
        (0.75, 1.0, 0.75, 1.2, "fails"),  # within the noise
    ],
)
def test_the_rule_of_regret_without_a_simulator(power, level, reduced, noise, expected):
    assert own_paths(power, level, reduced, noise) == expected


def test_the_identities_of_refined_regret():
    exact = refined_regret.identities([77])
    assert exact.lemma < 0 < exact.violated and exact.means < 1e-12 and exact.under <= 1e-12


def test_blocks_move_the_best_feature_and_planted_losses_keep_it():
    planted = refined_regret.adversary(refined_regret.PLANTED, 400, 0)
    blocks = refined_regret.adversary(refined_regret.BLOCKS, 400, 0)
    assert [len({int(q[:, h].mean(axis=0).argmin()) for q in np.split(planted, 4)}) for h in range(2)] == [
        1,
        1,
    ]
    assert [len({int(q[:, h].mean(axis=0).argmin()) for q in np.split(blocks, 4)}) for h in range(2)] == [
        3,
        3,
    ]
