"""Replay buffers: training again on comparisons of earlier rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import RandomDraws, needing
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.recorded import TargetBeatsOwn
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Buffered(Pairing):
    """Replay buffer of the `size` newest pairs; a round draws as many as it formed, with replacement.

        P(pair i) ~ 1/(1 + m_i),    m_i = how often pair i was drawn in the rounds before

    The round's own pairs enter before it draws; the oldest leave first. The buffer is not stored: earlier pairs are
    formed again from their round's responses, and m_i is counted in the comparisons since; equal pairs share one
    count. So `base` must not query an oracle. Not for exact games, which draw nothing.

    Source: Yin et al. 2024 (2405.20830), as their code does it.
    """

    base: Pairing = field(default_factory=TargetBeatsOwn)
    size: int = 2000
    parameters: ClassVar[tuple[str, ...]] = ("size",)
    capabilities: ClassVar[tuple[type, ...]] = (RandomDraws,)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the replay buffer's size must be at least 1, got {self.size!r}")

    def check(self, width: int) -> None:
        self.base.check(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        new = self.base.form(world, state, rows)
        drawn: Counter[Hashable] = Counter()
        held, room = [new], self.size - len(new)
        for back in range(1, state.round):
            written, judged = world.past(state, back, "sampling"), world.past(state, back)
            if room <= 0 or written is None or judged is None:
                break
            drawn.update(_keys(judged))
            held.append(self.base.form(world, state, written))
            room -= len(held[-1])
        pairs = Rows.join(held)
        pairs = pairs.take(np.arange(min(len(pairs), self.size)))  # the newest come first
        chances = np.array([1 / (1 + drawn[key]) for key in _keys(pairs)])
        draws = needing(world, RandomDraws).uniforms(state, "buffer", len(new))
        edges = chances.cumsum()
        return pairs.take(np.searchsorted(edges, draws * edges[-1], side="right")) if len(pairs) else pairs

    def reach(self, rounds: int) -> int:
        return rounds

    def describe(self) -> str:
        return f"{self.base.describe()}; drawn from a replay buffer, unseen pairs first"


def _keys(rows: Rows) -> list[Hashable]:
    return [(prompt, *group) for prompt, group in zip(rows.prompts, rows.responses, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Replayed(Pairing):
    """Any pairing, with replayed comparisons of earlier rounds in addition to the new ones.

    shares   number of replayed comparisons relative to the new ones, at most: shares[0] from the last round, shares[1]
             from the one before, and so on, drawn without replacement; None: all comparisons of all earlier rounds.
    """

    base: Pairing = field(default_factory=Pairs)
    shares: tuple[float, ...] | None = None

    def check(self, width: int) -> None:
        self.base.check(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        new = self.base.form(world, state, rows)
        parts, reach = [new], state.round - 1 if self.shares is None else len(self.shares)
        for back in range(1, reach + 1):
            old = world.past(state, back)
            if old is None:
                break
            old = old.take(np.arange(len(old) if old.fresh is None else old.fresh))
            if self.shares is not None:
                order = needing(world, RandomDraws).uniforms(state, f"replay-{back}", len(old)).argsort()
                old = old.take(order[: int(self.shares[back - 1] * len(new))])
            parts.append(old)
        return replace(Rows.join(parts), fresh=len(new))

    @property
    def capabilities(self) -> tuple[type, ...]:
        return () if self.shares is None else (RandomDraws,)

    def reach(self, rounds: int) -> int:
        return rounds if self.shares is None else len(self.shares)

    def describe(self) -> str:
        old = "all" if self.shares is None else "some"
        return f"{self.base.describe()}; {old} comparisons of earlier rounds replayed"
