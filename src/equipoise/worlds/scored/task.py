"""Task of a scored world: what scores, samples, judges and evaluates; control and diffusion differ in these alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from equipoise.core.intervals import Interval
from equipoise.play.state import Floats
from equipoise.worlds.scored.examples import Arrays, Indices

Parameters = Mapping[str, Tensor]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Draw:
    """Address of a score's random numbers: the policy and its frozen twins are scored with the same ones.

    seed     63-bit integer made of the run's seed and of names (`play.seeds`).
    policy   the trained policy at this step, without gradient, for a score whose numbers depend on it; None: there is
             none, as where a whole round is scored at once.
    """

    seed: int
    policy: Parameters | None = None
    made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What is made of these numbers for one batch: by whoever asks first where there is a trained policy."""
        if self.policy is None:
            return make()
        if name not in self.made:
            self.made[name] = make()
        return cast(Made, self.made[name])

    def generator(self) -> torch.Generator:
        """A generator at its beginning: whoever asks draws the same numbers."""
        return torch.Generator().manual_seed(self.seed)


class Score(Protocol):
    """Differentiable score of examples under a policy, in nats or a multiple of them.

    fresh   whether it estimates by random numbers that each optimizer step should draw anew (denoising errors). Frozen
            policies are then scored at every step with the step's numbers; otherwise once, before the first step.
    """

    @property
    def fresh(self) -> bool: ...

    def __call__(
        self, parameters: Parameters, examples: Mapping[str, Tensor], prompts: Tensor, draw: Draw
    ) -> Tensor:
        """[B, K] scores of examples name -> [B, K, ...] for prompts [B]; carries the parameters' gradient.

        Random numbers are shared within a comparison: what is drawn has shape [B, ...] and not [B, K, ...].
        """
        ...

    def lengths(self, examples: Mapping[str, Tensor]) -> Tensor:
        """[B, K] what a score is a sum over: steps of a segment; 1 of what has no parts."""
        ...


class Sampler(Protocol):
    """A policy's own examples."""

    def sample(self, parameters: Parameters, prompts: Indices, seed: int) -> Arrays:
        """Name -> [M, ...], one example for each prompt [M], drawn from a seed."""
        ...


class Judge(Protocol):
    """Preference oracle of examples.

    fingerprint   what it is, in a line; a resumed run is refused another one.
    """

    @property
    def fingerprint(self) -> str: ...

    def prefer(self, prompts: Indices, first: Arrays, second: Arrays) -> Floats:
        """[N] probability that the first example of each prompt beats the second."""
        ...


@runtime_checkable
class Rewarding(Protocol):
    """A judge that also scores single examples."""

    def rewards(self, prompts: Indices, examples: Arrays) -> Floats:
        """[N] scalar reward of each example, higher is better."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Recorded comparisons of examples.

    examples  name -> [M, ...] what they compare.
    pairs     [N, 2] indices into them.
    prob      [N] probability in [0, 1] that the first of a pair beats the second; 1/2 for a tie.
    prompts   [N] index of each pair's prompt; None: all have prompt 0.
    lists     [L, K] ranked lists of examples, for methods that read them; None: none are recorded.
    list_rewards   [L, K] reward of each; the order is the ranking.

    Raises ValueError, naming the row, for an index without an example or a probability outside [0, 1].
    """

    examples: Arrays
    pairs: npt.NDArray[np.intp]
    prob: Floats
    prompts: Indices | None = None
    lists: Indices | None = None
    list_rewards: Floats | None = None

    def __post_init__(self) -> None:
        count = len(next(iter(self.examples.values())))
        if self.pairs.shape != (len(self.prob), 2):
            raise ValueError(f"pairs must have shape [{len(self.prob)}, 2], got {list(self.pairs.shape)}")
        for row, (pair, prob) in enumerate(zip(self.pairs.tolist(), self.prob.tolist(), strict=True)):
            if not all(0 <= index < count for index in pair):
                raise ValueError(
                    f"recorded pair {row} compares examples {pair[0]} and {pair[1]}, but there are {count}"
                )
            if not 0 <= prob <= 1:  # also of a number that is not one
                raise ValueError(
                    f"recorded pair {row} has the label {prob}; a label is the probability in [0, 1] that the first "
                    "example is preferred"
                )


@runtime_checkable
class RewardingSets(Protocol):
    """A judge that scores whole sets of examples: a distance of distributions, diversity."""

    def set_reward(self, examples: Arrays) -> float:
        """Reward of a set, higher is better."""
        ...


class Evaluation(Protocol):
    """What a policy is worth, measured after each round."""

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        """The measures by name, the most important first."""
        ...

    def measure(self, parameters: Parameters, seed: int) -> Mapping[str, Interval]:
        """Each measure with its 95 % interval; the same seed draws the same episodes for every policy."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a scored world trains on.

    name       of the world, as `--world` names it.
    start      the initial policy, made from a seed: drawn, or trained on recorded examples.
    recorded   recorded comparisons; their examples are the first of the run's.
    prompts    (generator, count) -> [count] prompts of a round.
    pictures   policy and seed -> figures of the report: (caption, PNG); None: there are none.
    about      facts for the report: name -> words.
    """

    name: str
    title: str
    score: Score
    sampler: Sampler
    judge: Judge
    evaluation: Evaluation
    start: Callable[[int], dict[str, Tensor]]
    recorded: Recorded
    prompts: Callable[[np.random.Generator, int], Indices]
    pictures: Callable[[Parameters, int], Sequence[tuple[str, bytes]]] | None = None
    about: Mapping[str, str] = field(default_factory=dict)


def one_prompt(draw: np.random.Generator, count: int) -> Indices:
    """Prompt 0, `count` times: of a task that has no prompts."""
    return np.zeros(count, dtype=np.intp)
