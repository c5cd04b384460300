"""The world of scored examples: fresh random numbers are shared with the anchors, descents carry moments, draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core.objectives import Dpo
from equipoise.games.zoo import rps
from equipoise.methods.index import METHODS, get
from equipoise.play.round import play, play_round
from equipoise.play.state import INITIAL, POLICY, START, State
from equipoise.run.config import ConfigError
from equipoise.run.worlds.session import check
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.world import ScoredWorld
from equipoise.worlds.table.world import TableWorld
from points_world import points_world


def test_one_callable_in_two_worlds():
    method, world = get("ipo").with_parameters({"tau": 0.5}), points_world()
    game = rps()
    table = play_round(method, TableWorld(game), State.begin(game.initial())).policies[START]
    scored = play_round(method, world, world.begin())
    assert bool(table.probs().isfinite().all())
    assert float(world.parameters(scored, START)["mean"][:, 0].min()) > 0.05  # towards what is preferred


@pytest.mark.parametrize("fresh", [False, True])
def test_log_ratios_are_exactly_zero_at_step_zero(fresh: bool):
    world = points_world(fresh=fresh)
    state = world.begin()
    rows = world.recorded(state)
    anchors = world.anchors(state, rows, {"reference": INITIAL})
    fit = world._fit(state, rows, anchors, Dpo(), START, POLICY, carry=False, speed=1.0)
    assert fit.step()["loss"] == pytest.approx(np.log(2), abs=1e-12) and fit.step_zero == 0.0


def test_random_numbers_of_a_step_are_shared_with_the_anchors_and_new_in_the_next():
    world = points_world(fresh=True)
    state = world.begin()
    rows = world.recorded(state)
    anchors = world.anchors(state, rows, {"reference": INITIAL})
    fit = world._fit(state, rows, anchors, Dpo(), START, POLICY, carry=False, speed=1.0)
    every = np.arange(len(rows))
    seen = []
    for fit.position in (0, 0, 1):
        scores = fit.scores(every)
        assert torch.equal(scores.logp.detach(), scores.of("reference"))
        seen.append(scores.logp.detach())
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_a_descent_goes_on_with_its_moments_and_a_fit_begins_anew():
    world = points_world()
    state = world.begin()
    rows = world.recorded(state)
    first = world.descend(state, rows, {}, get("cpl").loss, rate=1.0)
    steps = {name: float(value) for name, value in first.moments.items() if name.endswith("/step")}
    assert steps == {"mean/step": 3.0}  # 40 pairs in batches of 16
    after = state.with_policies(**{START: first})
    second = world.descend(after, rows, {}, get("cpl").loss, rate=1.0)
    assert float(second.moments["mean/step"]) == 6.0
    assert not world.fit(after, rows, {}, get("cpl").loss).moments


def test_online_play_moves_towards_what_is_preferred():
    world = points_world(steps=40, lr=0.05)
    method = replace(get("online_dpo"), rounds=20)
    state = play(method, world, world.begin())
    assert float(world.parameters(state, START)["mean"][:, 0].min()) > 0.3


def test_examples_keep_their_indices():
    examples = Examples({"x": np.arange(3.0)})
    assert examples.append({"x": np.array([7.0])}).tolist() == [3]
    assert examples.numpy(np.array([[0, 3]]))["x"].tolist() == [[0.0, 7.0]]
    with pytest.raises(ValueError, match="examples are x"):
        examples.append({"y": np.array([7.0])})


def test_nothing_to_train_on_is_said():
    world = points_world()
    state = world.begin()
    with pytest.raises(TrainingError, match="no comparisons"):
        world.fit(state, world.recorded(state).take(np.arange(0)), {}, get("cpl").loss)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_played_or_refused_in_a_sentence(name: str):
    method = METHODS[name]
    if name == "zbcpg":  # a block of coordinates, of which six parameters have fewer than its 1000
        method = method.with_parameters({"block": 3})
    try:
        check(method, ScoredWorld)
    except ConfigError as error:
        assert len(str(error).split()) > 4 and "\n" not in str(error)
        return
    world = points_world(listed=method.needs.lists, steps=2)
    state = world.begin(method.update.memory, keep_past=method.asks_the_past)
    after = play_round(replace(method, rounds=2), world, state)
    assert after.round == 2 and bool(world.parameters(after, START)["mean"].isfinite().all())
