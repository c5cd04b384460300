"""Control tasks: segments recorded in an environment, labelled by an oracle, under one policy class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from equipoise.play.seeds import Seeds
from equipoise.worlds.scored.examples import Examples, Indices
from equipoise.worlds.scored.fit import Training
from equipoise.worlds.scored.imitation import cloned
from equipoise.worlds.scored.task import Parameters, Recorded, Task
from equipoise.worlds.segments.environment import Environment, Trajectories
from equipoise.worlds.segments.evaluation import EpisodeReturns
from equipoise.worlds.segments.files import read_segments
from equipoise.worlds.segments.heads import Head, Kind
from equipoise.worlds.segments.judges import Advantage, By, SegmentJudge
from equipoise.worlds.segments.segments import SegmentSampler, SegmentScore, cut

Pictures = Callable[[Environment, Head, Parameters, int], Sequence[tuple[str, bytes]]]


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """Settings of a control world.

    policy        class of the policy: "gaussian", "deterministic" (as in CPL), or of discrete actions "categorical".
    oracle        what prefers one segment: "regret" or "partial_return".
    rationality   k of P = sigma(k difference); infinite labels without noise.
    length        steps of a segment.
    recorded      episodes that are recorded by the world's own noisy behaviour.
    pairs         recorded comparisons.
    lists         ranked lists for methods that read them, of `list_size` segments.
    segments      a file of recorded segments (docs/beyond_language.md) in place of the world's own.
    warm_start    steps of behaviour cloning of all recorded segments before the first round.
    episodes      evaluation episodes.
    hidden        width of the policy's two layers.
    """

    policy: Kind = "gaussian"
    oracle: By = "regret"
    rationality: float = np.inf
    length: int = 16
    recorded: int = 80
    pairs: int = 2000
    lists: int = 500
    list_size: int = 4
    segments: str | None = None
    warm_start: int = 600
    episodes: int = 50
    hidden: int = 64

    def __post_init__(self) -> None:
        for name in ("length", "recorded", "pairs", "lists", "episodes", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.warm_start < 0 or self.list_size < 2:
            raise ValueError("warm_start must be at least 0 and list_size at least 2")


@dataclass(frozen=True, kw_only=True)
class Control:
    """An environment with what a control task needs besides.

    record      (episodes, seed) -> trajectories of the behaviour that the recorded segments come from.
    advantage   A*, where it is known.
    """

    environment: Environment
    head: Head
    title: str
    record: Callable[[int, int], Trajectories]
    advantage: Advantage | None = None
    pictures: Pictures | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def task(self, settings: ControlSettings, seed: int) -> Task:
        """The task: recorded segments with labels, and the policy that clones them. Raises ValueError for files or
        settings that do not fit the environment."""
        seeds = Seeds(seed)
        score = SegmentScore(self.head)
        judge = SegmentJudge(settings.oracle, self.advantage, settings.rationality)
        if settings.segments:
            recorded = read_segments(Path(settings.segments), self.environment)
        else:
            recorded = self._recorded(settings, judge, seeds)

        def start(drawn: int) -> dict[str, Tensor]:
            begin = self.head.start(drawn)
            if not settings.warm_start:
                return begin
            examples = Examples(recorded.examples)
            training = Training(steps=settings.warm_start, batch=128, lr=1e-3)
            return cloned(
                score,
                examples,
                begin,
                np.arange(len(examples)),
                training,
                lambda what, at: Seeds(drawn)(what, at),
            )

        return Task(
            name=self.environment.name,
            title=self.title,
            score=score,
            sampler=SegmentSampler(self.environment, self.head, settings.length),
            judge=judge,
            evaluation=EpisodeReturns(self.environment, self.head, settings.episodes),
            start=start,
            recorded=recorded,
            prompts=_starts,
            pictures=None
            if self.pictures is None
            else lambda parameters, drawn: self.pictures(  # type: ignore[misc]
                self.environment, self.head, parameters, drawn
            ),
            about={"policy": self.head.kind, "labels": judge.fingerprint, **self.about},
        )

    def _recorded(self, settings: ControlSettings, judge: SegmentJudge, seeds: Seeds) -> Recorded:
        examples = cut(self.record(settings.recorded, seeds("recorded episodes")), settings.length)
        count = len(next(iter(examples.values())))
        if count < max(2, settings.list_size):
            raise ValueError(
                f"{settings.recorded} episodes give {count} segments of {settings.length} steps, too few to compare; "
                "record more, or shorter ones"
            )
        draw = seeds.generator("recorded pairs")
        pairs = _distinct(draw, count, settings.pairs, 2)
        first, second = ({n: a[pairs[:, side]] for n, a in examples.items()} for side in (0, 1))
        none = np.zeros(settings.pairs, dtype=np.intp)
        prob = judge.prefer(none, first, second)
        if not np.isinf(judge.rationality):
            prob = (draw.random(len(prob)) < prob).astype(np.float64)
        lists = _distinct(seeds.generator("recorded lists"), count, settings.lists, settings.list_size)
        worth = judge.rewards(np.zeros(count, dtype=np.intp), examples)
        return Recorded(examples=examples, pairs=pairs, prob=prob, lists=lists, list_rewards=worth[lists])


def _starts(draw: np.random.Generator, count: int) -> Indices:
    """Reset seeds: each is a starting state."""
    return draw.integers(2**31, size=count).astype(np.intp)


def _distinct(draw: np.random.Generator, count: int, rows: int, width: int) -> Indices:
    """[rows, width] distinct indices below `count` in every row."""
    return np.stack([draw.choice(count, width, replace=False) for _ in range(rows)]).astype(np.intp)
