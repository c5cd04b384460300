"""One round of the game, the same for a table and a transformer."""

from __future__ import annotations

from equipoise.play.method import Method
from equipoise.play.world import State, World


def play_round(method: Method, world: World, state: State) -> State:
    """Write responses, judge them, score the anchors once, move the policy."""
    candidates = world.stage(state, "sampling", lambda: method.players.write(world, state))
    comparisons = world.stage(state, "judging", lambda: method.pairing.form(world, state, candidates))
    anchors = world.anchors(state, comparisons, method.anchors)
    policy = method.update.move(world, state, comparisons, anchors, method.objective)
    return state.advance(policy)
