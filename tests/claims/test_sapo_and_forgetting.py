"""SAPO against SPIN, and what two domains leave of the first: the games behind the claims, and their rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from equipoise.claims.shared_parameters import forgetting, sapo
from equipoise.claims.shared_parameters.forgetting import ALONE, BOTH, CHASED, JOINED, Problem, TwoDomains
from equipoise.claims.shared_parameters.sapo import (
    BETAS,
    SEGMENT,
    SPIN_ROUNDS,
    SPIN_STEPS,
    WHOLE,
    TokenWorld,
    segment_law,
)
from equipoise.claims.shared_parameters.shared_world import Shared, SharedWorld
from equipoise.core.objectives import Dpo
from equipoise.games import zoo
from equipoise.games.tokens import TokenPolicy, TokenTree
from equipoise.play.state import INITIAL, START, State
from equipoise.worlds.table.world import TableWorld

TREE = TokenTree(words=("a", "b"), length=6)


def random_logits(seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(1, len(TREE.prefixes), 2, generator=draw, dtype=torch.float64)


# --- policies with shared parameters


def test_with_a_parameter_for_every_response_the_steps_are_the_tables():
    """One step of rate r A on all logits is the table world's step of rate r; and so is a combination."""
    game = zoo.brps()
    table, shared = TableWorld(game), SharedWorld(game)
    own = State.begin(game.initial())
    same = State.begin(Shared(game.initial().logits, lambda theta: theta.log_softmax(dim=1)))
    rows, anchors = table.recorded(own), {"reference": game.initial().log_probs()}
    step = table.descend(own, rows, anchors, Dpo(beta=0.5), rate=0.2, speed=0.5)
    moved = shared.descend(same, rows, anchors, Dpo(beta=0.5), rate=0.2 * 3, speed=0.5)
    assert torch.allclose(step.log_probs(), moved.log_probs(), rtol=0, atol=1e-12)
    fitted = SharedWorld(game, steps=2, pace=0.3).fit(same, rows, anchors, Dpo(beta=0.5))
    once = shared.descend(same, rows, anchors, Dpo(beta=0.5), rate=0.3)
    twice = shared.descend(same.with_policies(**{START: once}), rows, anchors, Dpo(beta=0.5), rate=0.3)
    assert torch.equal(fitted.theta, twice.theta)
    mixed = shared.combine(same.with_policies(**{START: once}), {INITIAL: 0.25, START: 0.75}, name="x")
    assert torch.allclose(mixed.theta, 0.25 * game.initial().logits + 0.75 * once.theta)


# --- segments


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_the_law_of_segments_token_by_token(longest):
    """Every start, every segment, its probability multiplied up from the conditionals."""
    logits = random_logits()
    conditional = TokenPolicy(TREE, logits).conditional()[0].exp()
    prefix, response = ({s: i for i, s in enumerate(group)} for group in (TREE.prefixes, TREE.responses))
    starts = range(6 - 3 - longest + 1)
    expected = torch.zeros(64, 64, dtype=torch.float64)
    for old in TREE.responses:
        for k, segment in itertools.product(starts, itertools.product((0, 1), repeat=longest)):
            new = old[:k] + segment + old[k + longest :]
            p = 1.0
            for place in range(k, k + longest):
                p *= float(conditional[prefix[new[:place]], new[place]])
            expected[response[old], response[new]] += p / len(starts)
    assert torch.allclose(segment_law(TREE, logits, longest), expected, rtol=0, atol=1e-14)


def test_a_whole_response_is_the_policys_own():
    logits = random_logits()
    own = TokenPolicy(TREE, logits).tabular().probs()
    assert torch.allclose(segment_law(TREE, logits, 256), own.expand(64, 64), rtol=0, atol=1e-14)


def test_segments_leave_the_data_only_if_the_tail_does_not_depend_on_them():
    """DERIVED: with pi = p_data the negatives' law is p_data if later tokens ignore the segment, else it is not."""
    depth = torch.tensor([len(prefix) for prefix in TREE.prefixes])
    for logits, stays in ((random_logits()[:, depth], True), (random_logits(), False)):
        data = TokenPolicy(TREE, logits).tabular().probs()[0]
        negatives = data @ segment_law(TREE, logits, 2)
        assert negatives.sum() == pytest.approx(1)
        assert bool(torch.allclose(negatives, data, rtol=0, atol=1e-12)) == stays


def test_targets_and_their_segments_are_weighed_by_their_probability():
    logits = random_logits()
    target = TokenPolicy(TREE, logits).tabular().probs()[0]
    world = TokenWorld(game=zoo.brps(), tree=TREE, target=target)
    policy = Shared(logits, lambda theta: TokenPolicy(TREE, theta).tabular().log_probs())
    state = State.begin(policy)
    rows = world.recorded(state).columns([np.zeros(64, dtype=int)])
    written = world.rewrite(state, rows, START, 2)
    joint = np.zeros((64, 64))
    np.add.at(joint, tuple(written.responses.T), written.weight)
    assert np.allclose(joint, target[:, None] * segment_law(TREE, logits, 2), atol=1e-14)


# --- domains


def test_domains_agree_as_much_as_they_are_told():
    for agreement in (-0.5, 0.5, 1.0):
        problem = Problem.draw(agreement, 3)
        flat = problem.features.flatten(0, 1)
        rewards = problem.reward.view(2, -1)
        halves = flat.view(2, -1, forgetting.FEATURES)
        one, other = (torch.linalg.lstsq(halves[d], rewards[d, :, None]).solution[:, 0] for d in (0, 1))
        assert float(torch.cosine_similarity(one, other, dim=0)) == pytest.approx(agreement)
        world = TwoDomains(problem.game, problem.data)
        assert set(world.recorded(State.begin(None)).domain) == {0, 1}


def test_the_rewards_own_order_is_right_and_its_opposite_wrong():
    problem = Problem.draw(0.0, 0)
    for sign, expected in ((1.0, 1.0), (-1.0, 0.0)):
        policy = Shared(problem.reward, lambda theta, sign=sign: (sign * theta).log_softmax(dim=1))
        assert [problem.accuracy(policy, domain) for domain in (0, 1)] == [expected] * 2


# --- the rules


def traces(whole=0.01, rounds=0.1, steps=0.02, segment=0.05):
    noise = np.random.default_rng(0).normal(0, 1e-4, (6, 1))
    ends = {SPIN_ROUNDS: rounds, SPIN_STEPS: steps, WHOLE: whole, SEGMENT: segment}
    return {
        (beta, name): np.array([[1.0, 0.5, end]] * 6) + (1 + k) * noise
        for beta in BETAS
        for k, (name, end) in enumerate(ends.items())
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"whole": 0.2}, "fails"),
        ({"segment": 0.3}, "mixed"),
        ({"steps": 0.01}, "mixed"),  # the average adds nothing
    ],
)
def test_the_rule_of_sapo(changes, expected):
    assert sapo.judge(traces(**changes)).verdict == expected


def accuracies(both=(0.9, 0.8, 0.8), chased=(0.9, 0.75, 0.8), joined=(0.8, 0.7, 0.8)):
    noise = np.random.default_rng(0).normal(0, 1e-3, (8, 3))
    means = {ALONE: (0.8, 0.6, 0.8), JOINED: joined, CHASED: chased, BOTH: both}
    return {(0.5, name): np.array(mean) + (1 + k) * noise for k, (name, mean) in enumerate(means.items())}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"both": (0.9, 0.6, 0.8)}, "fails"),
        ({"joined": (0.8, 0.8, 0.8)}, "mixed"),  # the combination alone keeps as much
        ({"both": (0.9, 0.8, 0.6)}, "mixed"),  # what is kept is paid for in the second domain
        ({"chased": (0.8, 0.75, 0.8)}, "mixed"),
    ],
)
def test_the_rule_of_forgetting(changes, expected):
    assert forgetting.judge(accuracies(**changes)).verdict == expected


@pytest.mark.usefixtures("no_shape_types")  # hundreds of small steps
def test_a_seed_gives_the_same_figures_again(monkeypatch):
    monkeypatch.setattr(sapo, "REFIT", 5)
    first, again = (forgetting.accuracies(0.0, 2, 1) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    one, other = (sapo.distances(4, 0.5, 10, 1) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert one[WHOLE][-1] < one[WHOLE][0]
