"""Zeroth-order policy gradient: directions, comparisons, steps."""

from __future__ import annotations

from dataclasses import replace
from math import comb, log

import numpy as np
import pytest
import torch
from scipy.special import logit

from equipoise.games import zoo
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.zpg import ZBCPG, ZPG
from equipoise.play.method import Method
from equipoise.play.pairings.votes import Votes
from equipoise.play.players.perturbed import PerturbedPlayer
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import START, Perturbation, State
from equipoise.play.updates.zeroth_order import ZerothOrder
from equipoise.worlds.random_direction import shift, unit_direction
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld

REWARD = np.array([0.0, 1.0, -0.5, 2.0, 0.3])
THETA = np.array([0.2, -0.1, 0.4, 0.0, 0.5])


def value(theta):
    """V of softmax policies, one a row."""
    probs = np.exp(theta - theta.max(axis=-1, keepdims=True))
    return (probs / probs.sum(axis=-1, keepdims=True)) @ REWARD


def slope():
    """The gradient of V at THETA."""
    probs = np.exp(THETA) / np.exp(THETA).sum()
    return probs * (REWARD - probs @ REWARD)


def rows_of(prob):
    n = len(prob)
    return Rows(
        prompts=np.zeros(n, int),
        responses=np.zeros((n, 2), int),
        weight=np.ones(n),
        writers=("start nudged", "start"),
        prob=np.asarray(prob, float),
    )


@pytest.mark.parametrize("block", [0, 1, 3])
def test_the_estimate_is_the_gradient(block):
    """E (d/mu) (V(theta + mu v) - V(theta)) v = grad V as mu -> 0, for d = 5: the mean is off by its own error."""
    draw, mu = np.random.default_rng(0), 1e-3
    v = np.stack([unit_direction(draw, 5, block) for _ in range(20_000)])
    estimates = 5 / mu * (value(THETA + mu * v) - value(THETA))[:, None] * v
    error = estimates.std(axis=0) / np.sqrt(len(v))
    assert error.max() < 0.01
    assert np.abs(estimates.mean(axis=0) - slope()).max() < 4 * error.max()


def test_a_wide_nudge_gives_the_gradient_of_the_smoothed_value():
    """With d = 2 the ball of radius mu can be integrated: grad V_mu by differences of a fine average."""
    reward, theta, mu = np.array([0.0, 3.0]), np.array([0.3, 0.0]), 1.5

    def v_of(points):
        return reward[1] / (1 + np.exp(points[..., 0] - points[..., 1]))

    angle = (np.arange(720) + 0.5) * np.pi / 360
    sphere = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    estimate = (2 / mu * v_of(theta + mu * sphere)[:, None] * sphere).mean(axis=0)
    radius = mu * np.sqrt((np.arange(400) + 0.5) / 400)
    ball = radius[:, None, None] * sphere

    def smoothed(at):
        return v_of(at + ball).mean()

    by_differences = [(smoothed(theta + e) - smoothed(theta - e)) / 2e-4 for e in 1e-4 * np.eye(2)]
    np.testing.assert_allclose(estimate, by_differences, atol=1e-4)
    assert np.abs(estimate - reward[1] * np.array([-0.2445, 0.2445])).max() > 0.1  # far from grad V itself


def test_directions_are_unit_and_isotropic():
    draw = np.random.default_rng(1)
    for block in (0, 2, 6):
        v = np.stack([unit_direction(draw, 6, block) for _ in range(8000)])
        np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1)
        np.testing.assert_allclose(v.T @ v / len(v), np.eye(6) / 6, atol=0.02)
        assert not block or set((v != 0).sum(axis=1)) == {block}
    with pytest.raises(ValueError, match="block must be at most the number of parameters, 6; got 7"):
        unit_direction(draw, 6, 7)


@pytest.mark.parametrize("block", [0, 4])
def test_weights_shift_along_one_direction_over_all_tensors(block):
    zeros = lambda: [torch.zeros(3, 4), torch.zeros(5)]  # noqa: E731
    there, twice, other = zeros(), zeros(), zeros()
    shift(there, 2.0, seed=5, block=block)
    shift(twice, 1.0, seed=5, block=block)
    shift(twice, 1.0, seed=5, block=block)
    shift(other, 2.0, seed=6, block=block)
    flat = torch.cat([t.flatten() for t in there])
    assert float(flat.norm()) == pytest.approx(2, abs=1e-6)
    assert not block or int((flat != 0).sum()) == block
    torch.testing.assert_close(there, twice)
    assert not torch.equal(flat, torch.cat([t.flatten() for t in other]))


def mean_margin(p: float, votes: int, trim: float) -> float:
    """E sigma^-1(phat) over all outcomes of the votes, as the update computes it from the shares."""
    shares = np.arange(votes + 1) / votes
    chance = [comb(votes, k) * p**k * (1 - p) ** (votes - k) for k in range(votes + 1)]
    return float(np.array(chance) @ ZerothOrder(trim=trim).margins(rows_of(shares)))


def test_few_votes_overshoot_and_many_do_not():
    assert log(0.8 / 0.2) == pytest.approx(1.386, abs=5e-4)
    for votes, expected in ((5, 1.895), (20, 1.502), (100, 1.406)):
        assert mean_margin(0.8, votes, 0.02) == pytest.approx(expected, abs=1e-3)
    assert mean_margin(0.5, 5, 0.02) == pytest.approx(0, abs=1e-12)
    assert mean_margin(0.2, 5, 0.02) == pytest.approx(-mean_margin(0.8, 5, 0.02), abs=1e-12)


def test_links_invert_their_probabilities():
    rows = rows_of([0.5, 0.8, 0.999])
    np.testing.assert_allclose(ZerothOrder(trim=0.01).margins(rows), logit([0.5, 0.8, 0.99]))
    thurstone = ZerothOrder(trim=0.01, link="thurstone").margins(rows)
    np.testing.assert_allclose(thurstone[:2], [0, 1.1902], atol=1e-4)  # sqrt 2 times 0.8416


def gain(world, state, mu: float, block: int = 0):
    rows = Votes().form(world, state, PerturbedPlayer(samples=1, mu=mu, block=block).write(world, state))
    return world.average(rows, ZerothOrder(trim=1e-9).margins(rows))


def bradley_terry(rewards=REWARD, theta=THETA):
    return zoo.bradley_terry(rewards, torch.softmax(torch.tensor(theta), dim=0))


def test_the_exact_gain_is_the_difference_of_values():
    game = bradley_terry()
    world, state = TableWorld(game), State.begin(game.initial())
    moved = world.who(state, Perturbation(scale=0.7))
    assert float((moved.logits - state.policies[START].logits).norm()) == pytest.approx(0.7)
    expected = value(moved.logits.numpy()) - value(THETA)
    np.testing.assert_allclose(gain(world, state, 0.7), expected, atol=1e-9)


@pytest.mark.parametrize("votes", [0, 5])
def test_identical_policies_differ_by_nothing(votes):
    game = bradley_terry()
    world, state = TableWorld(game), State.begin(game.initial())
    np.testing.assert_allclose(gain(world, state, 1e-12), 0, atol=1e-9)
    if votes:  # and so do their votes, by the symmetry of the trimmed link: P and 1 - P come alike
        probs, weight = game.preference[0].numpy(), game.initial().probs()[0].numpy()
        means = np.vectorize(lambda p: mean_margin(p, votes, 0.02))(probs)
        assert weight @ means @ weight == pytest.approx(0, abs=1e-12)


def test_the_gain_is_antisymmetric_in_the_direction_up_to_mu_squared():
    game = bradley_terry()
    world, state = TableWorld(game), State.begin(game.initial())
    sums = [float(gain(world, state, mu)[0] + gain(world, state, -mu)[0]) for mu in (0.1, 0.05)]
    assert abs(sums[0]) < 0.1 * abs(float(gain(world, state, 0.1)[0]))
    assert sums[0] / sums[1] == pytest.approx(4, rel=0.1)  # D(v) + D(-v) ~ mu^2; D itself ~ mu


def one_round(game, method: Method, seed: int = 0) -> torch.Tensor:
    world = TableWorld(game, seed=seed)
    state = State.begin(TabularPolicy(game.initial().logits))
    return play_round(method.on_exact_games(1), world, state).policies[START].probs()


@pytest.mark.parametrize("method", [ZPG, ZBCPG], ids=lambda m: m.name)
def test_a_reward_that_differs_by_prompt_only_changes_nothing(method):
    method = method.with_parameters(method.exact)
    rewards, reference = torch.tensor(np.stack([REWARD, -REWARD])), torch.softmax(torch.tensor(THETA), dim=0)
    shifted = rewards + torch.tensor([[7.0], [-3.0]])
    before, after = (one_round(zoo.bradley_terry(r, reference), method) for r in (rewards, shifted))
    torch.testing.assert_close(before, after)
    assert float((before - reference).abs().max()) > 1e-3


@pytest.mark.parametrize("method", [ZPG, ZBCPG], ids=lambda m: m.name)
def test_a_step_is_alpha_d_over_mu_times_the_gain(method):
    method = method.with_parameters(dict(method.exact) | {"alpha": 0.3, "mu": 0.2})
    game = bradley_terry()
    world, state = TableWorld(game), State.begin(game.initial())
    block = method.parameters()["block"]
    v = (world.who(state, Perturbation(scale=1.0, block=block)).logits - game.initial().logits)[0].numpy()
    d = value(THETA + 0.2 * v) - value(THETA)
    expected = torch.softmax(torch.tensor(THETA + 0.3 * 5 / 0.2 * d * v), dim=0)
    torch.testing.assert_close(one_round(game, method)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [ZPG, ZBCPG], ids=lambda m: m.name)
def test_the_best_response_is_found_on_a_transitive_game(method):
    trace = play_game(zoo.transitive(4), method.with_parameters(method.exact), rounds=60)
    assert trace["gap0"][0] > 0.5
    assert trace["gap0"][-1] < 0.05


def test_parameters_of_one_name_are_one():
    method = ZBCPG.with_parameters({"mu": 2.0, "block": 7, "votes": 3})
    assert (method.players.mu, method.update.mu) == (2.0, 2.0)
    assert (method.players.block, method.update.block, method.pairing.votes) == (7, 7, 3)
    with pytest.raises(ValueError, match="zbcpg has no objective to minimise"):
        _ = method.loss


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"trim": 0.5}, r"trim must lie in \(0, 1/2\), got 0.5"),
        ({"alpha": 0.0}, "alpha must be a positive number"),
        ({"link": "probit"}, "link must be one of bradley_terry, thurstone, got 'probit'"),
        ({"block": -1}, "block must be a number of coordinates, or 0 for all, got -1"),
    ],
)
def test_illegal_parameters_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        ZerothOrder(**wrong)


def test_a_round_of_text(make_world):
    """The probe leaves the model as it was; the step goes along the probe's direction; ties are not voted on."""
    world = make_world()
    state = world.begin()
    held = [p.detach().clone() for _, p in world.policy.parameters()]
    method = ZPG.with_parameters({"mu": 10.0})
    method = replace(method, players=PerturbedPlayer(samples=2, mu=10.0), pairing=Votes(votes=3))
    rows = method.players.write(world, state)
    assert all(torch.equal(a, p) for a, (_, p) in zip(held, world.policy.parameters(), strict=True))
    same = np.array([a == b for a, b in zip(rows.responses[:, 0], rows.responses[:, 2], strict=True)])
    assert same.any() and not same.all()  # the two policies draw the same uniforms
    judged = method.pairing.form(world, state, rows)
    assert (judged.prob[: len(rows)][same] == 0.5).all()
    assert set(np.round(judged.prob * 3, 9)) <= {0.0, 1.0, 1.5, 2.0, 3.0}

    after = play_round(method, world, state)
    step = torch.cat(
        [(p.detach() - a).flatten() for a, (_, p) in zip(held, world.policy.parameters(), strict=True)]
    ).double()
    gained = world.average(judged, method.update.margins(judged))
    length = abs(method.update.alpha * world.dimension() / 10.0 * gained)
    assert float(step.norm()) == pytest.approx(length, rel=1e-3)
    v = [torch.zeros_like(a) for a in held]
    shift(v, 1.0, world.seeds("nudge", 1, "zeroth-order"), 0)
    cosine = float(step @ torch.cat([t.flatten() for t in v]).double() / step.norm())
    assert cosine == pytest.approx(np.sign(gained), abs=1e-3)
    assert after.policies[START] == world.journal.checkpoint(1)
