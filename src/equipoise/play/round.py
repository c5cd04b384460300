"""One round of the game, the same for a table and a transformer."""

from __future__ import annotations

from equipoise.core.objectives.base import reads_tokens
from equipoise.play.method import Method
from equipoise.play.world import State, World


def play_round(method: Method, world: World, state: State) -> State:
    """Write responses, judge them, score the anchors once, move the policy."""
    candidates = world.stage(state, "sampling", lambda: method.players.write(world, state))
    comparisons = world.stage(state, "judging", lambda: method.pairing.form(world, state, candidates))
    tokens = reads_tokens(method.objective)
    anchors = world.anchors(state, comparisons, method.anchors, tokens=tokens)
    moved = method.update.move(method, world, state, comparisons, anchors)
    return world.settle(state.advance(moved))
