"""Capabilities of a world beyond its verbs: each protocol serves one family of methods.

A choice of a method names those that it uses (`Component.capabilities`). A world that lacks one is refused before
anything is played (`check`), in one sentence made of the protocol's first line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.core.objectives import Objective
from equipoise.core.step_weights import StepForm
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, Floats, State, Who

C = TypeVar("C")


class AuxiliaryModels(NamedTuple):
    """Models kept in memory while the policy is trained.

    references   anchor -> the frozen policy that it is, for anchors whose next-token distribution is read.
    head         an auxiliary head trained jointly with the policy; None for none.
    rate         the head's learning rate as a multiple of the policy's.
    """

    references: Mapping[str, str]
    head: AuxiliaryHead | None = None
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Token weights by how strongly a policy's units react (MaPO): masks of log-ratio and divergence."""

    name: ClassVar[str] = "activations"
    gives: ClassVar[tuple[str, ...]] = ("utility", "divergence")


@dataclass(frozen=True, kw_only=True)
class StepDifferences:
    """Token weights by how much a step differs from those of the other responses (TPO); see `core.step_weights`.

    mark    text that ends a step, such as a line's end; "" makes every token one.
    form    how the weight is made of the cosine.
    """

    mark: str = "\n"
    form: StepForm = "difference"
    name: ClassVar[str] = "step differences"
    gives: ClassVar[tuple[str, ...]] = ("step",)


TokenWeighting = Activations | StepDifferences


@runtime_checkable
class RandomDraws(Protocol):
    """random draws of labels or comparisons."""

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        """`count` uniform draws on [0, 1), addressed by round and name."""
        ...


@runtime_checkable
class SegmentRewriting(Protocol):
    """responses of which a segment is sampled again (SAPO)."""

    def rewrite(self, state: State, rows: Rows, by: Who, longest: int) -> Rows:
        """Append one response: the first one with a segment of at most `longest` tokens sampled again by the policy.

        A response of an exact game is one token: all of it is sampled again.
        """
        ...


@runtime_checkable
class MismatchedPrompts(Protocol):
    """responses to other prompts, for a KL estimate (KTO)."""

    def unrelated(self, state: State, rows: Rows) -> Rows:
        """Append to each row's labelled response one recorded for another prompt, to be read after this prompt.
        Its reward is 0 and means nothing.

        For text a seeded derangement of the rows; in a table every such response, with its probability as a factor of
        the weight. Where there is one prompt only, it is its own other prompt.
        """
        ...


@runtime_checkable
class PromptFeatures(Protocol):
    """features of prompts, for a density ratio (BCO)."""

    def prompt_features(self, state: State, rows: Rows) -> Tensor:
        """[N, F]: of text the initial policy's mean hidden states; in a table one coordinate for each prompt."""
        ...


@runtime_checkable
class BothRoles(Protocol):
    """prompts that show an earlier answer, so that the policy answers and improves answers (SRPO)."""

    def both_roles(self, rows: Rows) -> Rows:
        """Six columns for a pair: both responses after the prompt, then each after each."""
        ...


@runtime_checkable
class Degradations(Protocol):
    """responses with their content removed step by step (SPO)."""

    def degraded(self, rows: Rows, degrees: int) -> Rows:
        """Columns 0 and 1, then each with more and more of its content left out: degrees - 1 of each."""
        ...


@runtime_checkable
class TokenValues(Protocol):
    """log-probs and values of single tokens (PPO, RTO)."""

    def token_logps(self, state: State, rows: Rows, policy: str) -> tuple[Tensor, Tensor]:
        """([N, K, T] log-probs of the responses' tokens under the named policy, [N, K, T] True where there is one).

        In an exact game T = 1.
        """
        ...

    def token_values(self, state: State, rows: Rows, returns: Tensor) -> Tensor:
        """[N, K, T] value of the prefix before each token: the return that the policy that wrote it may expect.

        returns    [N, K, T] what followed each prefix. In an exact game their mean over the prompt's rows; for text a
                   regression on them, see `policy.scoring.value_regression`.
        """
        ...


@runtime_checkable
class TokenWeights(Protocol):
    """weights of tokens made from a frozen policy's states (TPO, MaPO)."""

    def token_weights(
        self, state: State, rows: Rows, by: TokenWeighting, policy: str
    ) -> Mapping[str, npt.NDArray[np.float64]]:
        """Name -> [N, K, T] how much each token counts, by what the named policy makes of it; constants."""
        ...


@runtime_checkable
class ResponseScores(Protocol):
    """log-probs of sampled responses while they are judged (SPA, CREAM)."""

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        """([N, K] log-probs of the responses under the named policy, [N, K] their tokens); inside a stage."""
        ...


@runtime_checkable
class LossEvaluation(Protocol):
    """losses of policies that are not trained (OFS-DPO)."""

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        """The named policy's mean loss on the rows; nothing is trained."""
        ...


@runtime_checkable
class LiveReferences(Protocol):
    """a reference or an auxiliary head in memory while it trains."""

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
        """`World.fit` with further models in memory, for objectives that read more of their anchors than log-probs."""
        ...


@runtime_checkable
class ParameterAverages(Protocol):
    """linear combinations of policies' parameters (averages, extrapolation)."""

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> Any:
        """sum_k w_k theta_k over named policies' parameters (in a table: log-probs).

        products    of LoRA adapters combine what they add to the weights, the products B A, in place of the factors:
                    the nearest adapter of the same rank (`policy.lora`).
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

        scale   one number; in a table also [X], one for each prompt.
        block   0: v is uniform on the sphere. K > 0: K coordinates are drawn without replacement, and
                v = K^(-1/2) sum_j s_j e_j over them with fair signs s_j. Either way E v v' = I / dimension.
        """
        ...

    def dimension(self) -> int:
        """Coordinates of one policy's parameters: its trained weights; in a table, the A logits of a prompt."""
        ...

    def average(self, rows: Rows, values: Floats) -> float | Floats:
        """Weighted mean of one number per row: over all rows; in a table [X], over each prompt's."""
        ...


@runtime_checkable
class LearnedRewards(Protocol):
    """features and texts of responses, for a reward learned during the run (RLP, UPO)."""

    def texts(self, rows: Rows) -> list[list[str]]:
        """The responses as an oracle reads them, [N][K]."""
        ...

    def features(self, state: State, rows: Rows) -> Tensor:
        """[N, K, F] what a learned reward reads of each response, the same in every round: of text, the initial
        policy's hidden states; in a table, one coordinate for each prompt and response."""
        ...

    def cached(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """Tensors made once, from a seed addressed by `name`, and kept with the run; later calls read them.

        To be called inside a stage, where one process works and the others wait.
        """
        ...


def needing(world: Any, capability: Callable[..., C]) -> C:
    """The world, typed as one that has the capability. Raises ValueError for a world that lacks it.

    capability    a protocol's class. It is annotated by what it makes, because `type[C]` admits no abstract class.
    """
    protocol = cast(type[C], capability)
    if not isinstance(world, protocol):
        raise ValueError(f"this asks for {_first_line(protocol)}, {_lacking(type(world))}")
    return world


def check(name: str, capabilities: tuple[type, ...], world: type) -> None:
    """Raise ValueError, in one sentence, where a world lacks what the named method asks for."""
    for capability in capabilities:
        if not issubclass(world, capability):
            raise ValueError(f"{name} needs {_first_line(capability)}, {_lacking(world)}")


def _first_line(capability: type) -> str:
    return (capability.__doc__ or capability.__name__).splitlines()[0].rstrip(".")


def _lacking(world: type) -> str:
    return f"which {getattr(world, 'kind', world.__name__)} does not offer"
