"""Preferences between segments: properties of partial return and regret on a small grid, and what fits recover."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.games import TokenTree
from equipoise.games.segments import (
    DeterministicMdp,
    Segments,
    fit_reward,
    partial_return,
    preference_logit,
    regret,
    walks,
)

WIDTH = 3


def grid(discount=0.9):
    """3 x 3 cells; right, left, down, up, staying at walls; the last cell is the goal and terminal."""
    cells = torch.arange(WIDTH**2)
    row, column = cells // WIDTH, cells % WIDTH
    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    after = [(row + r).clamp(0, WIDTH - 1) * WIDTH + (column + c).clamp(0, WIDTH - 1) for r, c in moves]
    return DeterministicMdp(
        successor=torch.stack(after, dim=1), terminal=cells == WIDTH**2 - 1, discount=discount
    )


def drawn_reward(world, seed=0, copies=()):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*copies, *world.successor.shape, generator=draw, dtype=torch.float64)


def drawn_segments(world, count, length, seed=0):
    """Walks that do not act in the goal; those that would are drawn again."""
    draw = torch.Generator().manual_seed(seed)
    starts, steps = [], []
    while len(starts) < count:
        s = int(torch.randint(WIDTH**2, (1,), generator=draw))
        a = torch.randint(4, (length,), generator=draw)
        at, acts = s, True
        for action in a:
            acts = acts and not bool(world.terminal[at])
            at = int(world.successor[at, action])
        if acts:
            starts.append(s)
            steps.append(a)
    return walks(world, torch.tensor(starts), torch.stack(steps))


def optimal_walks(world, reward, length=2):
    greedy = world.greedy(reward)
    found = []
    for start in range(WIDTH**2):
        states, actions = [start], []
        while len(actions) < length and not bool(world.terminal[states[-1]]):
            actions.append(int(greedy[states[-1]]))
            states.append(int(world.successor[states[-1], actions[-1]]))
        if len(actions) == length:
            found.append((states, actions))
    return Segments(torch.tensor([s for s, _ in found]), torch.tensor([a for _, a in found]))


def test_values_by_hand():
    """Two states and an end: stay (reward 1) or go on (reward 0, then 5 at the end)."""
    world = DeterministicMdp(
        successor=torch.tensor([[0, 1], [0, 2], [2, 2]]),
        terminal=torch.tensor([False, False, True]),
        discount=0.5,
    )
    reward = torch.tensor([[1.0, 0.0], [0.0, 5.0], [7.0, 7.0]], dtype=torch.float64)
    # going on is worth 0 + 5/2 = 2.5, staying for ever 1/(1 - 1/2) = 2, staying once and then going 1 + 2.5/2 = 2.25
    assert world.optimal_value(reward).tolist() == pytest.approx([2.5, 5.0, 0.0])
    stay = walks(world, torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 1]]))
    assert partial_return(world, reward, stay).tolist() == pytest.approx([1.0, 2.5])
    # ends in state 1, worth 5, discounted twice: 2.5 - (1 + 5/4); the other ends
    assert regret(world, reward, stay).tolist() == pytest.approx([0.25, 0.0])
    assert preference_logit(world, reward, stay, Segments(*(x.flip(0) for x in stay)), "regret").tolist() == (
        pytest.approx([-0.25, 0.25])
    )


def test_regret_is_the_sum_of_negative_advantages():
    world = grid()
    reward, segments = drawn_reward(world), drawn_segments(world, 30, 3)
    value = world.optimal_value(reward)
    advantage = world.action_values(reward, value) - value[:, None]
    steps = advantage[segments.states[:, :-1], segments.actions]
    by_hand = -(steps * 0.9 ** torch.arange(3, dtype=torch.float64)).sum(dim=1)
    assert torch.allclose(regret(world, reward, segments), by_hand, atol=1e-9)
    assert float(by_hand.min()) >= -1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_optimal_segments_have_no_regret_whatever_they_earn(seed):
    world = grid()
    reward = drawn_reward(world, seed)
    best = optimal_walks(world, reward)
    assert float(regret(world, reward, best).abs().max()) < 1e-9
    returns = partial_return(world, reward, best)
    assert float(returns.max() - returns.min()) > 0.1
    logit = preference_logit(world, reward, best, Segments(*(x.flip(0) for x in best)), "regret")
    assert torch.sigmoid(logit).tolist() == pytest.approx([0.5] * len(logit), abs=1e-9)
    drawn = drawn_segments(world, 20, 2, seed)
    assert float(regret(world, reward, drawn).min()) > -1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.8, 0.95]))
def test_shaping_changes_partial_returns_and_no_regret(seed, discount):
    world = grid(discount)
    reward, segments = drawn_reward(world, seed), drawn_segments(world, 20, 3, seed)
    potential = torch.randn(WIDTH**2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    potential[world.terminal] = 0
    shaped = reward + discount * potential[world.successor] - potential[:, None]
    assert torch.allclose(regret(world, shaped, segments), regret(world, reward, segments), atol=1e-8)
    moved = partial_return(world, shaped, segments) - partial_return(world, reward, segments)
    assert float(moved.std()) > 0.01


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_whole_responses_to_one_prompt_make_both_models_one(seed):
    tree = TokenTree(words=("a", "b", "."), eos=2, length=3)
    world = DeterministicMdp.of_tree(tree)
    reward = drawn_reward(world, seed)
    complete = [y for y in tree.responses if len(y) == 3]
    zeros = torch.zeros(len(complete), dtype=torch.long)
    one = walks(world, zeros, torch.tensor(complete))
    assert bool(world.terminal[one.states[:, -1]].all())
    other = Segments(*(x.flip(0) for x in one))
    by_return, by_regret = (
        preference_logit(world, reward, one, other, model) for model in ("partial_return", "regret")
    )
    assert torch.allclose(by_return, by_regret, atol=1e-9)


def test_a_constant_is_seen_by_regret_only():
    """Segments of one length: partial return cannot know a constant per step, which decides whether to end."""
    world = grid()
    reward = -torch.ones(WIDTH**2, 4, dtype=torch.float64)
    first, second = drawn_segments(world, 40, 3), drawn_segments(world, 40, 3, seed=1)
    for model, same in (("partial_return", True), ("regret", False)):
        away = preference_logit(world, reward + 2, first, second, model) - preference_logit(
            world, reward, first, second, model
        )
        assert (float(away.abs().max()) < 1e-9) is same
    goal = WIDTH**2 - 1
    near = goal - 1
    assert int(world.successor[near, world.greedy(reward)[near]]) == goal
    assert int(world.successor[near, world.greedy(reward + 2)[near]]) != goal


def test_copies_share_nothing():
    world = grid(0.8)
    first, second = drawn_segments(world, 30, 2), drawn_segments(world, 30, 2, seed=1)
    wins = torch.rand(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    many = [Segments(*(x.expand(2, *x.shape) for x in s)) for s in (first, second)]
    both = fit_reward(world, *many, wins, "regret", steps=20)
    alone = fit_reward(world, first, second, wins[1], "regret", steps=20)
    assert torch.allclose(alone, both[1], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["partial_return", "regret"])
def test_a_fit_recovers_the_preferences_that_its_model_gave(model):
    world = grid(0.8)
    reward = drawn_reward(world, copies=(2,))
    first, second = drawn_segments(world, 300, 2), drawn_segments(world, 300, 2, seed=1)
    many = [Segments(*(x.expand(2, *x.shape) for x in s)) for s in (first, second)]
    truth = torch.sigmoid(preference_logit(world, reward, *many, model))
    found = fit_reward(world, *many, truth, model, steps=500, decay=0.0)
    fitted = torch.sigmoid(preference_logit(world, found, *many, model))
    assert float((fitted - truth).abs().max()) < 0.05


def test_gradients_of_optimal_values_are_those_of_finite_differences():
    world = grid()
    reward = drawn_reward(world).requires_grad_()
    assert torch.autograd.gradcheck(world.optimal_value, reward, eps=1e-6, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="must lead to a terminal"):
        DeterministicMdp(successor=torch.tensor([[0], [1]]), terminal=torch.tensor([False, True])).greedy(
            -torch.ones(2, 1, dtype=torch.float64)
        )
    with pytest.raises(ValueError, match="cycle of states pays"):
        grid(1.0).greedy(torch.ones(WIDTH**2, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="acts in a terminal state"):
        walks(grid(), torch.tensor([WIDTH**2 - 2]), torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match="discount must lie"):
        grid(0.0)
    with pytest.raises(ValueError, match="none of the 1 states"):
        DeterministicMdp(successor=torch.tensor([[1]]), terminal=torch.tensor([False]))
    world, segments = grid(), drawn_segments(grid(), 2, 2)
    with pytest.raises(ValueError, match="preference model is"):
        preference_logit(world, drawn_reward(world), segments, segments, "returns")
