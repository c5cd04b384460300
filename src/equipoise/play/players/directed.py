"""Responses to prompts that tell a direction among several scores (directional preference alignment)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import NamedScores, PromptTemplates, RandomDraws, needing
from equipoise.play.directions import TEMPLATE, Telling, directions, told
from equipoise.play.needs import ORACLE_WITH_NAMED_SCORES, Needs
from equipoise.play.players.protocol import Players
from equipoise.play.rows import Rows
from equipoise.play.state import START, State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Directed(Players):
    """`samples` responses of the policy to each prompt, which tells it a direction v drawn for it.

        v a unit vector over the oracle's named scores, at an angle of low to high degrees from the first

    low, high   degrees, -180 <= low <= high <= 180; see `directions.directions`.
    template    the words that the policy reads; see `directions.Telling`. An oracle reads the prompt as it was.
    words       names of the weights instead of numbers.

    Raises ValueError for angles out of range and a template without a field. Source: Wang et al. 2024 (2402.18571);
    the angles are those of the released model.
    """

    samples: int = 8
    low: float = -45.0
    high: float = 45.0
    template: str = TEMPLATE
    words: tuple[str, ...] = ()
    parameters: ClassVar[tuple[str, ...]] = ("low", "high", "template", "words")
    needs: ClassVar[Needs] = ORACLE_WITH_NAMED_SCORES
    capabilities: ClassVar[tuple[type, ...]] = (NamedScores, PromptTemplates, RandomDraws)
    exchangeable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not -180 <= self.low <= self.high <= 180:
            raise ValueError(
                f"angles must satisfy -180 <= low <= high <= 180, got {self.low!r} and {self.high!r}"
            )
        _ = self.telling

    @property
    def telling(self) -> Telling:
        return Telling(self.template, tuple(self.words))

    @property
    def width(self) -> int:
        return self.samples

    def tellings(self, names: Sequence[str]) -> list[tuple[dict[str, float], str]]:
        """Three directions between the first two scores, at the lowest, the middle and the highest angle."""
        angles = np.deg2rad([self.low, (self.low + self.high) / 2, self.high])
        first, second = names[:2]
        none = dict.fromkeys(names, 0.0)
        found = [
            {**none, first: round(float(np.cos(a)), 6), second: round(float(np.sin(a)), 6)} for a in angles
        ]
        return [(direction, self.telling.template_of(direction)) for direction in found]

    def write(self, world: World, state: State) -> Rows:
        rows = world.prompts(state)
        names = tuple(needing(world, NamedScores).named_scores(rows.take(np.arange(0))))
        draws = needing(world, RandomDraws).uniforms(state, "directions", len(rows) * len(names))
        v = directions(draws.reshape(len(rows), len(names)), self.low, self.high)
        templates = [self.telling.template_of(dict(zip(names, row, strict=True))) for row in v.tolist()]
        asked = needing(world, PromptTemplates).conditioned(rows, templates)
        written = world.sample(state, asked, START, self.samples)
        return replace(written, attributes={**written.attributes, **told(v, names, self.samples)})

    def writing(self, samples: int) -> Directed:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return (
            f"{self.samples} responses by the policy itself, whose prompt tells a direction among the scores"
        )
