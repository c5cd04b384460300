"""Rows of comparisons: the data structure that passes from stage to stage, the same for a table and for text.

A row is one prompt, its responses so far, and a judgement once there is one. Prompts and responses are arrays of
whatever the world produces: integers in an exact game, `Prompt` and `Response` objects for text. The loop only
selects, appends and weighs them; it never looks inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt


def objects(values: list[Any], width: int | None = None) -> np.ndarray:
    """An object array [N] or [N, width]; numpy would otherwise unpack the values."""
    array = np.empty(len(values) if width is None else (len(values), width), dtype=object)
    for row, value in enumerate(values):
        array[row] = value if width is None else [*value]
    return array


Array = npt.NDArray[Any]


def _widened(values: Array, width: int) -> Array:
    """[N, width]: the values, followed by unknown ones."""
    unknown = "" if values.dtype == object else np.nan
    more = np.full((len(values), width - values.shape[1]), unknown, dtype=values.dtype)
    return np.concatenate([values, more], axis=1)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N rows (comparisons) with K responses each.

    prompts    [N]    responses  [N, K]
    weight     [N]    probability (exact game) or importance (text) of the row
    writers    K names, the source of each column: "recorded", or a policy's name ("initial", "start", "before")
    prob       [N]    probability that column 0 beats column 1; None before judging
    reward     [N, K] per response (a win rate, a score), or [N, K, T] per token; None if not computed
    fresh      number of leading rows from this round, the rest being replayed; None: all of them
    domain     [N]    domain of the recorded data that the row belongs to, from 0; not saved with a stage
    user       [N]    id of the annotator whose judgement the row is, "" if there is none; None if the data name none
    attributes name -> [N, K] what was measured of each response: float64 (NaN: unknown) or category ("": unknown)
    token_weights     name -> [N, K, T] weight of each token; set by an update, not saved with a stage
    """

    prompts: Array
    responses: Array
    weight: npt.NDArray[np.float64]
    writers: tuple[str, ...]
    prob: npt.NDArray[np.float64] | None = None
    reward: npt.NDArray[np.float64] | None = None
    fresh: int | None = None
    domain: npt.NDArray[np.intp] | None = None
    user: Array | None = None
    attributes: Mapping[str, Array] = field(default_factory=dict)
    token_weights: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.prompts)
        if self.responses.shape != (n, len(self.writers)) or self.weight.shape != (n,):
            raise ValueError(
                f"{n} prompts with responses {self.responses.shape}, weight {self.weight.shape}, "
                f"{len(self.writers)} writers: these shapes do not match"
            )
        if self.prob is not None and self.prob.shape != (n,):
            raise ValueError(f"prob has shape {self.prob.shape}, expected ({n},)")
        if self.reward is not None and self.reward.shape[:2] != self.responses.shape:
            raise ValueError(f"reward has shape {self.reward.shape}, expected {self.responses.shape}")

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def rewards(self) -> npt.NDArray[np.float64]:
        """The rewards. Raises ValueError if there are none."""
        if self.reward is None:
            raise ValueError(
                "these rows have no rewards or labels of single responses; use a pairing that gives them"
            )
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
            user=None if self.user is None else self.user[rows],
            attributes={name: values[rows] for name, values in self.attributes.items()},
            token_weights={name: weight[rows] for name, weight in self.token_weights.items()},
        )

    def part(self, number: int, parts: int) -> Rows:
        """The `number`-th of `parts` interleaved parts of the rows, cyclically; round t of a run takes part t - 1."""
        return self.take(np.arange(number % parts, len(self), parts))

    @property
    def domains(self) -> npt.NDArray[np.intp]:
        """[N] each row's domain; 0 if the data have no domains."""
        return np.zeros(len(self), dtype=np.intp) if self.domain is None else self.domain

    @property
    def users(self) -> Array:
        """[N] each row's annotator; "" if the data name none."""
        return np.full(len(self), "", dtype=object) if self.user is None else self.user

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
            attributes={name: values[at] for name, values in self.attributes.items()},
            token_weights={},
        )

    def _writer(self, column: Array) -> str:
        names = {self.writers[c] for c in np.unique(column)}
        return names.pop() if len(names) == 1 else "mixed"

    def pair(self, first: Array, second: Array, prob: npt.NDArray[np.float64]) -> Rows:
        """One pair per row: the responses at column indices first[i] and second[i], with P(first beats second)."""
        return replace(self.columns([first, second]), prob=prob)

    def preferred_first(self) -> Rows:
        """Labelled pairs, reordered so that the preferred response is column 0; a missing label counts as 1."""
        prob = np.ones(len(self)) if self.prob is None else self.prob
        best = np.where(prob >= 0.5, 0, 1)
        return self.pair(best, 1 - best, np.maximum(prob, 1 - prob))

    def append(self, responses: Array, writer: str) -> Rows:
        """Append columns [N, k] by one writer; the rewards, which covered the old columns only, are dropped.

        No attribute of the new responses is known.
        """
        writers = (*self.writers, *[writer] * responses.shape[1])
        joined = np.concatenate([self.responses, responses], axis=1)
        attributes = {name: _widened(values, len(writers)) for name, values in self.attributes.items()}
        return replace(
            self, responses=joined, writers=writers, reward=None, attributes=attributes, token_weights={}
        )

    def alone(self) -> Rows:
        """One row per response (unpaired), with its label as the reward: P(it beats the other one) for a pair.

        Rows of one labelled response are unchanged. All first responses come before all second ones.
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
        """Concatenate parts of the same shape."""
        probs = [part.prob for part in parts if part.prob is not None]
        rewards = [part.reward for part in parts if part.reward is not None]
        users = [part.user is not None for part in parts]
        return replace(
            parts[0],
            prompts=np.concatenate([part.prompts for part in parts]),
            responses=np.concatenate([part.responses for part in parts]),
            weight=np.concatenate([part.weight for part in parts]),
            prob=np.concatenate(probs) if len(probs) == len(parts) else None,
            reward=np.concatenate(rewards) if len(rewards) == len(parts) else None,
            domain=None,
            user=np.concatenate([part.users for part in parts]) if any(users) else None,
            attributes={
                name: np.concatenate([part.attributes[name] for part in parts])
                for name in parts[0].attributes
                if all(name in part.attributes for part in parts)
            },
            token_weights={},
        )
