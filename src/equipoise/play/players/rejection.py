"""Statistical rejection sampling (RSO): accepted candidates are draws from the optimal policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from equipoise.play.capabilities import RandomDraws, needing
from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.sampled import logit
from equipoise.play.players.protocol import Players, name_of
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, Floats, State, Tilted, Who
from equipoise.play.world import World

Columns = npt.NDArray[np.intp]


def check_counts(samples: int, candidates: int, beta: float) -> None:
    """Raise ValueError unless 1 <= samples <= candidates and beta > 0."""
    if not 1 <= samples <= candidates:
        raise ValueError(
            f"cannot accept {samples} of {candidates} candidates; need 1 <= samples <= candidates"
        )
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta!r}")


def accept(reward: Floats, samples: int, beta: float, draw: Callable[[int], Floats]) -> Columns:
    """Rejection sampling: [N, samples] columns of the accepted candidates, in order of acceptance.

        pass over the remaining candidates, in order:  accept c when u < exp((r_c - r_max)/beta),  u ~ U[0, 1)

    reward    [N, M] of the candidates; r_max is the largest among those remaining when a pass begins.
    draw      pass number -> [N, M] uniform numbers.

    A prompt is done as soon as `samples` are accepted. Each pass accepts its maximum, which has ratio 1, so there are
    at most `samples` passes. Duplicate texts are separate candidates: merged, as in the paper's listing, each text
    would count once instead of as often as the policy writes it. Raises ValueError for samples > M.

    Source: Liu et al. 2023 (2309.06657), Algorithm 1.
    """
    count, width = reward.shape
    check_counts(samples, width, beta)
    order = np.full((count, width), -1)  # rank at which a candidate was accepted
    taken = np.zeros(count, dtype=np.intp)
    turn = 0
    while (taken < samples).any():
        left = order < 0
        most = np.where(left, reward, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        ratio = np.exp(np.where(left, reward - most, -np.inf) / beta)
        accepted = left & (draw(turn) < ratio) & (taken < samples)[:, None]
        places = taken[:, None] + accepted.cumsum(axis=1) - 1
        accepted &= places < samples
        order[accepted] = places[accepted]
        taken, turn = taken + accepted.sum(axis=1), turn + 1
    which = np.where(order < 0, width, order).argsort(axis=1, kind="stable")
    return which[:, :samples]


@dataclass(frozen=True, kw_only=True)
class Rejected(Players):
    """`samples` responses per prompt, accepted by rejection sampling from `candidates` of one policy (RSO).

        r(y) = logit P(y beats y_b),    y_b a baseline response of the same policy

    Accepted responses follow pi exp(r/beta)/Z, exactly in the limit of many candidates. The oracle is queried
    `candidates` times per prompt. Exact games use `Accepting` instead.

    Source: Liu et al. 2023 (2309.06657).
    """

    samples: int = 8
    candidates: int = 64
    beta: float = 0.5
    by: Who = INITIAL
    parameters: ClassVar[tuple[str, ...]] = ("candidates", "beta")
    needs: ClassVar[Needs] = ORACLE
    capabilities: ClassVar[tuple[type, ...]] = (RandomDraws,)
    exchangeable: ClassVar[bool] = True

    @property
    def width(self) -> int:
        return self.samples

    def __post_init__(self) -> None:
        check_counts(self.samples, self.candidates, self.beta)

    def write(self, world: World, state: State) -> Rows:
        rows = world.sample(state, world.prompts(state), self.by, self.candidates + 1)
        baseline = np.full(len(rows), self.candidates)
        wins = [world.compare(rows, np.full_like(baseline, c), baseline) for c in range(self.candidates)]
        reward = logit(np.stack(wins, axis=1))

        draws = needing(world, RandomDraws)

        def draw(turn: int) -> Floats:
            return draws.uniforms(state, f"rejection-{turn}", reward.size).reshape(reward.shape)

        chosen = accept(reward, self.samples, self.beta, draw)
        return rows.columns(list(chosen.T))

    def writing(self, samples: int) -> Rejected:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} of {self.candidates} responses by {name_of(self.by)}, by rejection sampling"


@dataclass(frozen=True, kw_only=True)
class Accepting(Players):
    """The limit of `Rejected` with many candidates, in an exact game: given y_b, i.i.d. draws from the tilted policy.

    pi exp(logit P(y beats y_b)/beta)/Z; every y_b ~ pi is enumerated. Under Bradley-Terry preferences the choice of
    y_b does not matter. With few candidates the distribution lies between this and pi; that is not modelled here.
    """

    samples: int = 2
    beta: float = 0.5
    by: str = INITIAL
    parameters: ClassVar[tuple[str, ...]] = ("beta",)
    needs: ClassVar[Needs] = ORACLE
    exchangeable: ClassVar[bool] = True

    @property
    def width(self) -> int:
        return self.samples

    def __post_init__(self) -> None:
        check_counts(self.samples, self.samples, self.beta)

    def write(self, world: World, state: State) -> Rows:
        rows = world.sample(state, world.prompts(state), self.by, 1)
        rows = world.sample(state, rows, Tilted(beta=self.beta, by=self.by), self.samples)
        return rows.columns([np.full(len(rows), 1 + k) for k in range(self.samples)])

    def writing(self, samples: int) -> Accepting:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return f"{self.samples} responses by {name_of(self.by)}, tilted towards winners against a baseline"
