"""The game loop: one round, and the loop over rounds, the same for a table and a transformer."""

from __future__ import annotations

from collections.abc import Callable

from equipoise.play.method import Method
from equipoise.play.state import State
from equipoise.play.world import World


def play_round(method: Method, world: World, state: State) -> State:
    """One round: write responses, judge them, score the anchors once, update the policy."""
    method = method.at_round(state.round)
    candidates = world.stage(state, "sampling", lambda: method.players.write(world, state))
    comparisons = world.stage(state, "judging", lambda: method.pairing.form(world, state, candidates))
    tokens = method.objective is not None and method.objective.reads.tokens
    anchors = world.anchors(state, comparisons, method.anchors, tokens=tokens)
    moved = method.update.move(method, world, state, comparisons, anchors)
    return world.settle(state.advance(moved))


def play(
    method: Method,
    world: World,
    state: State,
    after: Callable[[State], None] = lambda state: None,
    ends: Callable[[State], bool] = lambda state: False,
) -> State:
    """Play from `state`, which may be in the middle of a run, until `method.rounds` rounds are done or `ends` says so.

    Both are called with the state at every round boundary, including the starting one, `after` first.
    """
    after(state)
    while not ends(state) and state.round <= method.rounds:
        state = play_round(method, world, state)
        after(state)
    return state
