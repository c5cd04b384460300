"""Capabilities of judging: rewards, votes, self-evaluation, and rewards that are learned during a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State, Who


@runtime_checkable
class ResponseRewards(Protocol):
    """scalar rewards of single responses by an oracle (policy gradients with a reward model, DNO-Prct, tree search)."""

    def rewards(self, rows: Rows) -> Floats:
        """[N, K] the oracle's score of every response, higher is better."""
        ...


@runtime_checkable
class SetRewards(Protocol):
    """rewards of whole sets of responses, such as a distance of distributions or diversity (DRAGON)."""

    def set_reward(self, rows: Rows) -> Callable[[npt.NDArray[np.intp]], float] | None:
        """Columns [N] -> the oracle's reward of the set that holds response columns[i] of every row i, higher is
        better; None where the oracle judges single responses."""
        ...


@runtime_checkable
class NamedScores(Protocol):
    """an oracle's named scores of single responses, such as the rewards of groups of users (MaxMin-RLHF)."""

    def named_scores(self, rows: Rows) -> Mapping[str, Floats]:
        """Name -> [N, K], at least one; inside a stage."""
        ...


@runtime_checkable
class OracleVotes(Protocol):
    """votes of an uncertain oracle: an ensemble, or passes with dropout (UPO)."""

    def votes(self, rows: Rows, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> Floats:
        """[T, N] probability of each of T votes that response first[i] of row i beats response second[i]."""
        ...


@runtime_checkable
class SelfEvaluation(Protocol):
    """self-evaluation: the policy's own confidence that a response, begun or whole, is correct (MCTS-DPO)."""

    def confidences(self, state: State, rows: Rows, by: Who) -> Floats:
        """[N, K] probability of "correct" against "incorrect" as the named policy's next token, asked of each
        response."""
        ...


@runtime_checkable
class LearnedRewards(Protocol):
    """features of responses, for a reward learned during the run (RLP, UPO)."""

    def features(self, state: State, rows: Rows) -> Tensor:
        """[N, K, F] input features of a learned reward, the same in every round: for text the initial policy's
        hidden states; in a table a one-hot vector per prompt and response."""
        ...


@runtime_checkable
class RunCache(Protocol):
    """tensors that are computed once and kept with the run (RLP, normalised rewards, multipliers)."""

    def cached(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """Tensors computed once, from a seed addressed by `name`, and cached with the run; later calls read them.

        Call it inside a stage, where one process works and the others wait.
        """
        ...


class RewardData(NamedTuple):
    """What a reward model is trained on: `equipoise oracle train`'s Bradley-Terry training within a run.

    pairs        labelled pairs.
    views        unlabelled responses, two or more to a prompt, for the information bottleneck; None: none.
    bottleneck   its weight lambda, >= 0.
    epochs, batch   passes over the pairs, and pairs of one step.
    """

    pairs: Rows
    views: Rows | None = None
    bottleneck: float = 0.0
    epochs: int = 1
    batch: int = 64


@runtime_checkable
class RewardModels(Protocol):
    """reward models of whole language models, trained during the run (RLP)."""

    def trained_reward(self, state: State, name: str, make: Callable[[int], RewardData]) -> Any:
        """A reward model that begins as the initial policy's body; trained once, from a seed addressed by `name`, and
        kept with the run. Call it inside a stage."""
        ...

    def reward_scores(self, rows: Rows, reward: Any) -> Floats:
        """[N, K] its rewards of the responses."""
        ...


@runtime_checkable
class Meanings(Protocol):
    """meanings of responses by a model of their own (RLP-SPG)."""

    def same_meanings(self, rows: Rows, folder: str, similarity: float) -> npt.NDArray[np.bool_]:
        """[N, K, K] which responses of a prompt mean the same, by the model in a folder (`oracles.models.meanings`)."""
        ...
