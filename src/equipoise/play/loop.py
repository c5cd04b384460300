"""The game: rounds of play until the method's horizon, resumable between and inside rounds."""

from __future__ import annotations

from collections.abc import Callable

from equipoise.play.method import Method
from equipoise.play.round import play_round
from equipoise.play.world import State, World


def play(method: Method, world: World, state: State, after: Callable[[State], None] | None = None) -> State:
    """Play `method.rounds` rounds from `state` (which may already be some rounds in).

    `after` is called with the state at every round boundary played here, the starting one included.
    """
    if after:
        after(state)
    while state.round <= method.rounds:
        state = play_round(method, world, state)
        if after:
            after(state)
    return state
