"""Capabilities that make policies: live references, averages, perturbations; and value networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.core.objectives import Objective
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, Floats, State


class AuxiliaryModels(NamedTuple):
    """Models kept in memory while the policy is trained.

    references   anchor -> name of its frozen policy, for the anchors with a next-token distribution that is read.
    head         an auxiliary head trained jointly with the policy, or None.
    rate         the head's learning rate as a multiple of the policy's.
    """

    references: Mapping[str, str]
    head: AuxiliaryHead | None = None
    rate: float = 1.0


@runtime_checkable
class LiveReferences(Protocol):
    """live references and auxiliary heads during training."""

    def fit_with(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        models: AuxiliaryModels,
        *,
        start: str = START,
        name: str = POLICY,
    ) -> Any:
        """`World.fit` with further models in memory, for objectives that read more than anchors' log-probs."""
        ...


@runtime_checkable
class ParameterAverages(Protocol):
    """linear combinations of policies' parameters (averages, extrapolation)."""

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> Any:
        """sum_k w_k theta_k over named policies' parameters (in a table: log-probs).

        products    combine the updates B A of LoRA adapters instead of their factors, by the nearest adapter of the
                    same rank (`policy.lora`).
        """
        ...


@runtime_checkable
class Perturbations(Protocol):
    """random directions in parameter space (zeroth-order methods)."""

    def perturb(
        self,
        state: State,
        start: str,
        *,
        scale: float | Floats,
        direction: str,
        block: int = 0,
        name: str,
    ) -> Any:
        """theta + scale * v, v a random unit vector in `dimension` coordinates, addressed by round and `direction`.

        scale   a scalar; in a table also [X], one per prompt.
        block   0: v is uniform on the sphere. K > 0: K coordinates are drawn without replacement, and
                v = K^(-1/2) sum_j s_j e_j over them with Rademacher signs s_j. Either way E v v' = I / dimension.
        """
        ...

    def dimension(self) -> int:
        """Dimension of parameter space: the number of trained weights; in a table, a prompt's A logits."""
        ...

    def average(self, rows: Rows, values: Floats) -> float | Floats:
        """Weighted mean of per-row values: over all rows; in a table [X], over the rows of each prompt."""
        ...


@runtime_checkable
class Critics(Protocol):
    """a value network, trained from round to round (PPO, RTO)."""

    def critic_values(self, state: State, rows: Rows, critic: str) -> Tensor:
        """[N, K, T] values of the prefixes before each token under the named critic; 0 for a new one."""
        ...

    def fit_critic(
        self,
        state: State,
        rows: Rows,
        before: Tensor,
        target: Tensor,
        *,
        critic: str,
        clip: float,
        rate: float,
    ) -> Any:
        """The critic after gradient steps on the clipped value loss (`core.value_loss`).

        before, target   [N, K, T] its values when the responses were written, and what they are regressed on.
        rate             learning rate, as a multiple of the policy's; the optimizer's moments are carried on.
        """
        ...
