"""Recorded demonstrations by difficulty: an easy-to-hard curriculum, and the ones a policy is deficient on (iTool)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from equipoise.play.capabilities import ResponseScores, needing
from equipoise.play.needs import DEMONSTRATIONS, Needs
from equipoise.play.players.protocol import Players, nothing_is_sampled
from equipoise.play.players.recorded import Demonstrations
from equipoise.play.rows import Rows
from equipoise.play.state import START, Floats, State
from equipoise.play.world import World

Difficulty = Literal["length", "perplexity"]


def difficulty_of(world: World, state: State, rows: Rows, by: Difficulty) -> Floats:
    """[N] difficulty of each recorded response: its tokens, or its perplexity exp(-log pi(y)/|y|) under the policy."""
    logp, length = needing(world, ResponseScores).scores(state, rows, START)
    return length[:, 0] if by == "length" else np.exp(-logp[:, 0] / length[:, 0])


def in_stages(difficulty: Floats, stages: int) -> list[npt.NDArray[np.intp]]:
    """Row indices from easy to hard in so many parts of nearly equal size; equal rows stay in their order."""
    return np.array_split(np.argsort(difficulty, kind="stable"), stages)


@dataclass(frozen=True, kw_only=True)
class EasyToHard(Players):
    """Responses to imitate, in stages from easy to hard: round t trains on the t-th part by difficulty.

    stages       number of parts; rounds beyond it begin again with the easiest.
    difficulty   "length": tokens of the response; "perplexity": of the response under the round's policy.

    Raises ValueError for no stage and an unknown difficulty.
    """

    stages: int = 3
    difficulty: Difficulty = "length"
    parameters: ClassVar[tuple[str, ...]] = ("stages", "difficulty")
    needs: ClassVar[Needs] = DEMONSTRATIONS
    capabilities: ClassVar[tuple[type, ...]] = (ResponseScores,)
    width: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise ValueError(f"a curriculum has at least one stage, got {self.stages!r}")
        if self.difficulty not in get_args(Difficulty):
            raise ValueError(
                f"difficulty must be one of {', '.join(get_args(Difficulty))}, got {self.difficulty!r}"
            )

    def write(self, world: World, state: State) -> Rows:
        rows = Demonstrations().write(world, state)
        parts = in_stages(difficulty_of(world, state, rows, self.difficulty), self.stages)
        return rows.take(parts[(state.round - 1) % self.stages])

    @property
    def sampled(self) -> bool:
        return False

    def writing(self, samples: int) -> EasyToHard:
        raise nothing_is_sampled()

    def describe(self) -> str:
        return (
            f"recorded responses to imitate, in {self.stages} stages from easy to hard by {self.difficulty}"
        )


class OnPrompts(Players, Protocol):
    """Players that can write for prompts that they are given."""

    def write_on(self, world: World, state: State, prompts: Rows) -> Rows: ...


@dataclass(frozen=True, kw_only=True)
class Deficient(Players):
    """Players on the prompts that the policy is deficient on: those whose recorded response surprises it most.

        perplexity of the recorded y under the round's policy, exp(-log pi(y | x)/|y|):  the `share` of rows with the
        most

    base    writes for these prompts, such as a tree search.

    Raises ValueError for a share outside (0, 1].

    Source: Zeng et al. 2025 (2501.09766), checked against the authors' code.
    """

    base: OnPrompts
    share: float = 0.3
    parameters: ClassVar[tuple[str, ...]] = ("share",)
    needs: ClassVar[Needs] = DEMONSTRATIONS
    capabilities: ClassVar[tuple[type, ...]] = (ResponseScores,)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share!r}")

    @property
    def width(self) -> int | None:
        return self.base.width

    @property
    def exchangeable(self) -> bool:
        return self.base.exchangeable

    def write(self, world: World, state: State) -> Rows:
        rows = Demonstrations().write(world, state)
        surprise = difficulty_of(world, state, rows, "perplexity")
        count = max(1, round(self.share * len(rows)))
        hardest = np.sort(np.argsort(-surprise, kind="stable")[:count])
        prompts = replace(rows.take(hardest).columns([]), weight=np.ones(count), reward=None)
        return self.base.write_on(world, state, prompts)

    def writing(self, samples: int) -> Deficient:
        return replace(self, base=cast(OnPrompts, self.base.writing(samples)))

    def describe(self) -> str:
        return f"on the {self.share:.0%} of prompts whose recorded response is most perplexing: {self.base.describe()}"
