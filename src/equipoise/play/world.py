"""The world protocol: the verbs by which a game is played, in a finite table or with a language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.core.objectives import Objective
from equipoise.core.step_weights import StepForm
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, Floats, State, Who


class AuxiliaryModels(NamedTuple):
    """What is in memory beside the policy while it is trained.

    alive     anchor -> the policy that it is, for anchors whose whole next-token law is read.
    network   a small network that is trained with the policy; None for none.
    rate      its learning rate as a multiple of the policy's.
    """

    alive: Mapping[str, str]
    network: AuxiliaryHead | None = None
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Tokens weighed by how strongly a policy reacts where it writes them (MaPO): masks of log-ratio and divergence."""

    name: ClassVar[str] = "activations"
    gives: ClassVar[tuple[str, ...]] = ("utility", "divergence")


@dataclass(frozen=True, kw_only=True)
class StepDifferences:
    """Tokens weighed by how much their step differs from those of the other responses (TPO); see `policy.steps`.

    mark    text that ends a step, such as a line's end; "" makes every token one.
    form    how the weight is made of the cosine.
    """

    mark: str = "\n"
    form: StepForm = "difference"
    name: ClassVar[str] = "step differences"
    gives: ClassVar[tuple[str, ...]] = ("step",)


TokenWeighting = Activations | StepDifferences


class World(Protocol):
    """What differs between a finite table and a transformer."""

    def prompts(self, state: State) -> Rows:
        """This round's prompts: rows without responses."""
        ...

    def recorded(self, state: State) -> Rows:
        """Recorded pairs with their labels."""
        ...

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        """The comparisons of `back` rounds ago, or what another stage gave; None before the first round."""
        ...

    def write(self, state: State, rows: Rows, by: Who, count: int) -> Rows:
        """Append `count` responses per row, written by the named policy."""
        ...

    def rewrite(self, state: State, rows: Rows, by: Who, longest: int) -> Rows:
        """Append one response: the first one with a segment of at most `longest` tokens written anew by the policy.

        A response of an exact game is one token: all of it is written anew.
        """
        ...

    def compare(self, rows: Rows, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> Floats:
        """P(response first[i] beats response second[i]) of every row, from the oracle."""
        ...

    def win_rates(
        self, state: State, rows: Rows, against: Who, opponents: int, of: Callable[[Floats], Floats]
    ) -> Floats:
        """[N, K] mean of f(P(y_k beats y')) over y' ~ `against`: exactly, or from samples.

        For text, `opponents` fresh responses of `against` are written for each prompt; with opponents = 0 each
        response meets the others of its row, all by one policy (leave one out).
        """
        ...

    def unrelated(self, state: State, rows: Rows) -> Rows:
        """Append to each row's labelled response one recorded for an unrelated prompt, to be read after this prompt.
        Its reward is 0 and means nothing.

        For text a seeded derangement of the rows; in a table every such response, with its probability as a factor of
        the weight. Where there is one prompt only, it is unrelated to itself.
        """
        ...

    def prompt_features(self, state: State, rows: Rows) -> Tensor:
        """[N, F] what a density ratio reads of the prompts: of text the initial policy's mean hidden states; in a table
        one coordinate for each prompt."""
        ...

    def both_roles(self, rows: Rows) -> Rows:
        """Six columns for a pair: both responses after the prompt, then each after each, as SRPO reads them."""
        ...

    def anchors(
        self, state: State, rows: Rows, names: Mapping[str, str], *, tokens: bool = False
    ) -> dict[str, Tensor]:
        """Frozen scores [N, K] under each anchor; `names` maps the objective's anchors to policies.

        With `tokens`, for an objective that reads them, text gives [N, K, T], one for each token and 0 where a response
        is over. In an exact game a response is one token: its tables stay as they are.
        """
        ...

    def token_logps(self, state: State, rows: Rows, policy: str) -> tuple[Tensor, Tensor]:
        """([N, K, T] log-probs of the responses' tokens under the named policy, [N, K, T] True where there is one).

        In an exact game T = 1.
        """
        ...

    def token_weights(
        self, state: State, rows: Rows, by: TokenWeighting, policy: str
    ) -> Mapping[str, npt.NDArray[np.float64]]:
        """Name -> [N, K, T] how much each token counts, by what the named policy makes of it; constants."""
        ...

    def degraded(self, rows: Rows, degrees: int) -> Rows:
        """Columns 0 and 1, then each with more and more of its content left out: degrees - 1 of each."""
        ...

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        """([N, K] log-probs of the responses under the named policy, [N, K] their tokens); inside a stage."""
        ...

    def token_values(self, state: State, rows: Rows, returns: Tensor) -> Tensor:
        """[N, K, T] value of the prefix before each token: what the policy that wrote the rows may expect.

        returns    [N, K, T] what followed each prefix. In an exact game their mean over the prompt's rows; for text a
                   regression on them, see `policy.critic`.
        """
        ...

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        """The named policy's mean loss on the rows; nothing is trained."""
        ...

    def fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
        speed: float = 1.0,
        beside: AuxiliaryModels | None = None,
    ) -> Any:
        """Minimise the objective from the named policy; returns the new one.

        name     what to call the result where a round makes several policies.
        speed    factor on the learning rate; an exact minimum does not depend on it.
        beside   for objectives that read more of their anchors than log-probs, or a network.
        """
        ...

    def descend(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        rate: float,
        start: str = START,
        name: str = POLICY,
        speed: float = 1.0,
    ) -> Any:
        """Gradient steps on the objective: in a table one step of `rate` times A times the exact gradient in the
        logits (the A responses' probabilities make a gradient of order 1/A); for text the round's optimizer
        steps, with the optimizer's moments taken over from the policy it starts at. `speed` is a factor on both."""
        ...

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> Any:
        """sum_k w_k theta_k over named policies' parameters (in a table: log-probs).

        products    of LoRA adapters combine what they add to the weights, the products B A, in place of the factors:
                    the nearest adapter of the same rank (`policy.lora`).
        """
        ...

    def nudge(
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

    @property
    def dimension(self) -> int:
        """Coordinates of one policy's parameters: its trained weights; in a table, the A logits of a prompt."""
        ...

    def average(self, rows: Rows, values: Floats) -> float | Floats:
        """Weighted mean of one number per row: over all rows; in a table [X], over each prompt's."""
        ...

    def texts(self, rows: Rows) -> list[list[str]]:
        """The responses as an oracle reads them, [N][K]."""
        ...

    def features(self, state: State, rows: Rows) -> Tensor:
        """[N, K, F] what a learned reward reads of each response, the same in every round: of text, the initial
        policy's hidden states; in a table, one coordinate for each prompt and response."""
        ...

    def kept(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """Tensors made once, from a seed addressed by `name`, and kept with the run; later calls read them.

        To be called inside a stage, where one process works and the others wait.
        """
        ...

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        """Run one stage of the round, or read back what an interrupted run had already finished."""
        ...

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        """`count` uniform draws on [0, 1), addressed by round and name."""
        ...

    def settle(self, state: State) -> State:
        """Make a new round's state durable; what the round before left behind may go."""
        ...
