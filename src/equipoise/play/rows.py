"""Rows: what the loop passes from stage to stage, the same for a table and for text.

A row is one prompt, the responses written for it so far, and a judgement once there is one. Prompts and
responses are arrays of whatever the world writes: integers in an exact game, `Prompt` and `Response` objects
for text. The loop only ever selects, appends and weighs; it never looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt


def objects(values: list[Any], width: int | None = None) -> np.ndarray:
    """An object array [N] or [N, width] (numpy would otherwise look inside the values)."""
    array = np.empty(len(values) if width is None else (len(values), width), dtype=object)
    for row, value in enumerate(values):
        array[row] = value if width is None else [*value]
    return array


Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N rows with K responses each.

    prompts    [N]    responses  [N, K]
    weight     [N]    probability (exact game) or importance (text) of the row
    writers    K names: who wrote each column: "recorded", or a policy's name ("initial", "start", "before")
    prob       [N]    probability that column 0 beats column 1; None before judging
    reward     [N, K] a number for each response (a win rate, a score), or [N, K, T] one for each of its tokens;
               None where nothing asked for one
    fresh      the first so many rows are of this round, the others replayed; None: all of them
    domain     [N]    which domain of the recorded data the row is of, from 0 on; stages do not keep it
    token_weights     name -> [N, K, T] how much each token counts; made by an update, stages do not keep them
    """

    prompts: Array
    responses: Array
    weight: npt.NDArray[np.float64]
    writers: tuple[str, ...]
    prob: npt.NDArray[np.float64] | None = None
    reward: npt.NDArray[np.float64] | None = None
    fresh: int | None = None
    domain: npt.NDArray[np.intp] | None = None
    token_weights: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.prompts)
        if self.responses.shape != (n, len(self.writers)) or self.weight.shape != (n,):
            raise ValueError(
                f"{n} prompts with responses {self.responses.shape}, weight {self.weight.shape}, "
                f"{len(self.writers)} writers: these do not fit"
            )
        if self.prob is not None and self.prob.shape != (n,):
            raise ValueError(f"prob has shape {self.prob.shape}, expected ({n},)")
        if self.reward is not None and self.reward.shape[:2] != self.responses.shape:
            raise ValueError(f"reward has shape {self.reward.shape}, expected {self.responses.shape}")

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def rewards(self) -> npt.NDArray[np.float64]:
        """The rewards, where there must be some. Raises ValueError where nothing gave any."""
        if self.reward is None:
            raise ValueError("these rows carry no rewards or labels of single responses")
        return self.reward

    def take(self, rows: Array) -> Rows:
        """The rows at the given indices (or boolean mask)."""
        return replace(
            self,
            prompts=self.prompts[rows],
            responses=self.responses[rows],
            weight=self.weight[rows],
            prob=None if self.prob is None else self.prob[rows],
            reward=None if self.reward is None else self.reward[rows],
            fresh=None,
            domain=None if self.domain is None else self.domain[rows],
            token_weights={name: weight[rows] for name, weight in self.token_weights.items()},
        )

    def part(self, number: int, parts: int) -> Rows:
        """The `number`-th of `parts` interleaved shares of the rows, cyclically; round t of a run takes part t - 1."""
        return self.take(np.arange(number % parts, len(self), parts))

    @property
    def domains(self) -> npt.NDArray[np.intp]:
        """[N] each row's domain; 0 where the data name none."""
        return np.zeros(len(self), dtype=np.intp) if self.domain is None else self.domain

    def columns(self, chosen: Sequence[Array]) -> Rows:
        """The responses at the given column indices (one [N] array for each new column), unjudged."""
        at = (
            np.arange(len(self))[:, None],
            np.stack(chosen, axis=1) if len(chosen) else np.empty((len(self), 0), int),
        )
        return replace(
            self,
            responses=self.responses[at],
            writers=tuple(self._writer(column) for column in chosen),
            prob=None,
            reward=None if self.reward is None else self.reward[at],
            token_weights={},
        )

    def _writer(self, column: Array) -> str:
        names = {self.writers[c] for c in np.unique(column)}
        return names.pop() if len(names) == 1 else "mixed"

    def pair(self, first: Array, second: Array, prob: npt.NDArray[np.float64]) -> Rows:
        """One pair per row: the responses at column indices first[i] and second[i], with P(first beats second)."""
        return replace(self.columns([first, second]), prob=prob)

    def preferred_first(self) -> Rows:
        """Labelled pairs, turned so that the response that the label prefers is column 0; no label is certainty."""
        prob = np.ones(len(self)) if self.prob is None else self.prob
        best = np.where(prob >= 0.5, 0, 1)
        return self.pair(best, 1 - best, np.maximum(prob, 1 - prob))

    def append(self, responses: Array, writer: str) -> Rows:
        """Further columns [N, k], all by one writer; rewards were those of the columns before, and go."""
        writers = (*self.writers, *[writer] * responses.shape[1])
        joined = np.concatenate([self.responses, responses], axis=1)
        return replace(self, responses=joined, writers=writers, reward=None, token_weights={})

    def alone(self) -> Rows:
        """Every response in a row of its own, its reward the label: P(it beats the other one) of a pair.

        Rows of one labelled response stay as they are. The order is that of the rows, chosen responses first.
        """
        if self.responses.shape[1] == 1:
            return self
        prob = np.ones(len(self)) if self.prob is None else self.prob
        sides = [
            replace(self.columns([np.full(len(self), column)]), reward=label[:, None])
            for column, label in ((0, prob), (1, 1 - prob))
        ]
        return Rows.join(sides)

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """The rows of several parts of the same shape, one after the other."""
        probs = [part.prob for part in parts if part.prob is not None]
        rewards = [part.reward for part in parts if part.reward is not None]
        return replace(
            parts[0],
            prompts=np.concatenate([part.prompts for part in parts]),
            responses=np.concatenate([part.responses for part in parts]),
            weight=np.concatenate([part.weight for part in parts]),
            prob=np.concatenate(probs) if len(probs) == len(parts) else None,
            reward=np.concatenate(rewards) if len(rewards) == len(parts) else None,
            domain=None,
            token_weights={},
        )
