"""Capabilities of scoring under frozen policies: log-probs, token values and weights, features, losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.core.step_weights import StepForm
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State


@runtime_checkable
class ResponseScores(Protocol):
    """log-probs of sampled responses at the judging stage (SPA, CREAM)."""

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        """([N, K] log-probs of the responses under the named policy, [N, K] lengths in tokens); inside a stage."""
        ...


@runtime_checkable
class TokenValues(Protocol):
    """per-token log-probs and values (PPO, RTO)."""

    def token_logps(self, state: State, rows: Rows, policy: str) -> tuple[Tensor, Tensor]:
        """([N, K, T] log-probs of the responses' tokens under the named policy, [N, K, T] mask: True at tokens).

        In an exact game T = 1.
        """
        ...

    def token_values(self, state: State, rows: Rows, returns: Tensor) -> Tensor:
        """[N, K, T] value of the prefix before each token: the expected return of the policy that wrote it.

        returns    [N, K, T] observed after each prefix. The values are, in an exact game, their mean over the prompt's
                   rows; for text, a regression on them (`policy.scoring.value_regression`).
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Token weights from a policy's activations (MaPO): masks for the log-ratio and the divergence."""

    name: ClassVar[str] = "activations"
    gives: ClassVar[tuple[str, ...]] = ("utility", "divergence")


@dataclass(frozen=True, kw_only=True)
class StepDifferences:
    """Token weights by a step's dissimilarity to the other responses' steps (TPO); see `core.step_weights`.

    mark    text that ends a step, such as a newline; "" makes every token a step.
    form    how the cosine similarity becomes a weight.
    """

    mark: str = "\n"
    form: StepForm = "difference"
    name: ClassVar[str] = "step differences"
    gives: ClassVar[tuple[str, ...]] = ("step",)


TokenWeighting = Activations | StepDifferences


@runtime_checkable
class TokenWeights(Protocol):
    """token weights from a frozen policy's hidden states (TPO, MaPO)."""

    def token_weights(
        self, state: State, rows: Rows, by: TokenWeighting, policy: str
    ) -> Mapping[str, npt.NDArray[np.float64]]:
        """Name -> [N, K, T] token weights from the hidden states of the named policy; constants."""
        ...


@runtime_checkable
class PromptFeatures(Protocol):
    """prompt features for a density ratio (BCO)."""

    def prompt_features(self, state: State, rows: Rows) -> Tensor:
        """[N, F]: for text the initial policy's mean hidden states; in a table a one-hot vector per prompt."""
        ...


@runtime_checkable
class LossEvaluation(Protocol):
    """loss evaluation without training (OFS-DPO)."""

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        """The named policy's mean loss on the rows; nothing is trained."""
        ...
