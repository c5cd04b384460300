"""A pairing's own memory: tensors carried from round to round, such as multipliers and group weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from equipoise.play.capabilities import RunCache, needing
from equipoise.play.state import State
from equipoise.play.world import World

Tensors = Mapping[str, Tensor]


def carried(
    world: World, state: State, name: str, *, first: Tensors, moved: Callable[[Tensors], Tensors]
) -> Tensors:
    """This round's tensors, moved once from those of the round before, which in round 1 are `first`.

    Cached with the run under the name and the round. Raises ValueError if those of the round before are missing.
    """
    cache = needing(world, RunCache)

    def missing(seed: int) -> Tensors:
        raise ValueError(f"the {name} of round {state.round - 1} are missing from the run folder")

    def made(seed: int) -> Tensors:
        before = first if state.round == 1 else cache.cached(state, f"{name}-{state.round - 1:03d}", missing)
        return moved(before)

    return cache.cached(state, f"{name}-{state.round:03d}", made)
