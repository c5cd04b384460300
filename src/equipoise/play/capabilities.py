"""Optional capabilities of a world: each small protocol serves one family of methods.

A component of a method names those that it uses (`Component.capabilities`). A world that lacks one is refused before
anything is played (`check`), in one sentence made from the protocol's first line.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
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

    references   anchor -> name of its frozen policy, for the anchors with a next-token distribution that is read.
    head         an auxiliary head trained jointly with the policy, or None.
    rate         the head's learning rate as a multiple of the policy's.
    """

    references: Mapping[str, str]
    head: AuxiliaryHead | None = None
    rate: float = 1.0


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


class PassTables(NamedTuple):
    """Which self-written codes of each row pass which of its self-written tests.

    passed   [N, J, K] whether code j passes test k; False where either cannot be read.
    read     [N, K] whether the test can be read.
    """

    passed: npt.NDArray[np.bool_]
    read: npt.NDArray[np.bool_]


TokenWeighting = Activations | StepDifferences


@dataclass(frozen=True, kw_only=True)
class StepCut:
    """Where the steps of a response end (lines, sentences, calls).

    mark      text that ends a step, such as a newline; "" makes every token a step; None: the rest of the response is
              one step.
    longest   most tokens of a step that ends with a mark.
    """

    mark: str | None = "\n"
    longest: int = 64

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"a step has at least 1 token, got at most {self.longest!r}")


class Step(NamedTuple):
    """One sampled step of a response.

    response   the world's record of it: a response whose new part follows what was written before it.
    key        equal for equal steps after the same beginning.
    logp       log-prob of the step under the policy that wrote it, in nats.
    length     tokens of the step.
    over       whether the response is over after it.
    """

    response: Any
    key: Hashable
    logp: float
    length: int
    over: bool


@runtime_checkable
class RandomDraws(Protocol):
    """random draws of labels or comparisons."""

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        """`count` uniform draws on [0, 1), addressed by round and name."""
        ...


@runtime_checkable
class SegmentRewriting(Protocol):
    """resampling of response segments (SAPO)."""

    def rewrite(self, state: State, rows: Rows, by: Who, longest: int) -> Rows:
        """Append one response: the first one with a segment of at most `longest` tokens resampled from the policy.

        A response of an exact game is one token: all of it is resampled.
        """
        ...


@runtime_checkable
class StepContinuation(Protocol):
    """continuation of begun responses, step by step (tree search)."""

    def next_steps(
        self, state: State, rows: Rows, by: Who, count: int, *, cut: StepCut, places: Sequence[int]
    ) -> list[list[Step]]:
        """`count` samples of the next step of each row's response, which is begun by column 0 (None: not begun).

        places   address of each row's random streams within the round, the same for the same prompt and beginning: a
                 row's samples depend on nothing else.
        """
        ...

    def joined_steps(self, steps: Sequence[Any]) -> Any:
        """One response of steps that follow each other, after what stands before the first of them."""
        ...


@runtime_checkable
class SelfEvaluation(Protocol):
    """self-evaluation: the policy's own confidence that a response, begun or whole, is correct (MCTS-DPO)."""

    def confidences(self, state: State, rows: Rows, by: Who) -> Floats:
        """[N, K] probability of "correct" against "incorrect" as the named policy's next token, asked of each
        response."""
        ...


@runtime_checkable
class MismatchedPrompts(Protocol):
    """mismatched prompt-response pairs for a KL estimate (KTO)."""

    def unrelated(self, state: State, rows: Rows) -> Rows:
        """Append to each row's labelled response one recorded for another prompt, to be scored after this prompt.
        Its reward, 0, is a placeholder.

        For text a seeded derangement of the rows; in a table every such response, with its probability as a factor of
        the weight. With a single prompt, responses are paired within it.
        """
        ...


@runtime_checkable
class PromptFeatures(Protocol):
    """prompt features for a density ratio (BCO)."""

    def prompt_features(self, state: State, rows: Rows) -> Tensor:
        """[N, F]: for text the initial policy's mean hidden states; in a table a one-hot vector per prompt."""
        ...


@runtime_checkable
class BothRoles(Protocol):
    """revision prompts, which show the policy an earlier answer to improve (SRPO)."""

    def both_roles(self, rows: Rows) -> Rows:
        """Six columns for a pair: both responses after the prompt, then each as a revision of each."""
        ...


@runtime_checkable
class Degradations(Protocol):
    """progressively degraded responses (SPO)."""

    def degraded(self, rows: Rows, degrees: int) -> Rows:
        """Columns 0 and 1, then degrees - 1 versions of each with progressively more content removed."""
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


@runtime_checkable
class TokenWeights(Protocol):
    """token weights from a frozen policy's hidden states (TPO, MaPO)."""

    def token_weights(
        self, state: State, rows: Rows, by: TokenWeighting, policy: str
    ) -> Mapping[str, npt.NDArray[np.float64]]:
        """Name -> [N, K, T] token weights from the hidden states of the named policy; constants."""
        ...


@runtime_checkable
class ResponseScores(Protocol):
    """log-probs of sampled responses at the judging stage (SPA, CREAM)."""

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        """([N, K] log-probs of the responses under the named policy, [N, K] lengths in tokens); inside a stage."""
        ...


@runtime_checkable
class LossEvaluation(Protocol):
    """loss evaluation without training (OFS-DPO)."""

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        """The named policy's mean loss on the rows; nothing is trained."""
        ...


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
class OracleVotes(Protocol):
    """votes of an uncertain oracle: an ensemble, or passes with dropout (UPO)."""

    def votes(self, rows: Rows, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> Floats:
        """[T, N] probability of each of T votes that response first[i] of row i beats response second[i]."""
        ...


@runtime_checkable
class ResponseTexts(Protocol):
    """responses as texts (RLP, DNO-Prct)."""

    def texts(self, rows: Rows) -> list[list[str]]:
        """The responses as an oracle reads them, [N][K]."""
        ...


@runtime_checkable
class NamedScores(Protocol):
    """an oracle's named scores of single responses, such as the rewards of groups of users (MaxMin-RLHF)."""

    def named_scores(self, rows: Rows) -> Mapping[str, Floats]:
        """Name -> [N, K], at least one; inside a stage."""
        ...

    def kept(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """Tensors computed once and kept with the run, as `LearnedRewards.cached`."""
        ...


@runtime_checkable
class PromptTemplates(Protocol):
    """prompts in the words of a template, such as one that tells a direction among rewards (DPA)."""

    def conditioned(self, rows: Rows, templates: Sequence[str]) -> Rows:
        """The rows without responses; the policy reads prompt i in the words of template i, which holds `{prompt}`, and
        an oracle reads it as it was."""
        ...


@runtime_checkable
class SelfWrittenTests(Protocol):
    """a sandbox that runs self-written code against self-written tests (DSTC)."""

    def asked(self, rows: Rows, template: str) -> Rows:
        """The rows without responses, their prompts in the words of a template, which holds `{prompt}`."""
        ...

    def pass_tables(self, state: State, rows: Rows, codes: int) -> PassTables:
        """Runs the first `codes` responses of each row against the others, its tests; inside a stage."""
        ...

    def concatenated(
        self, rows: Rows, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp], form: str
    ) -> npt.NDArray[Any]:
        """[N] one response of each row: the code of column first[i] and the test of second[i] in a form that holds
        `{code}` and `{test}`; None where the text cannot be an answer."""
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
    """tensors that are computed once and kept with the run (RLP, normalised rewards)."""

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
class TextEmbeddings(Protocol):
    """embeddings of texts by a model of their own (RLP-SPG)."""

    def embedded(self, texts: Sequence[str], folder: str) -> Tensor:
        """[N, D] embeddings by the model in a folder (`oracles.models.embeddings`)."""
        ...


@runtime_checkable
class ResponseRewards(Protocol):
    """scalar rewards of single responses by an oracle (policy gradients with a reward model, DNO-Prct, tree search)."""

    def rewards(self, rows: Rows) -> Floats:
        """[N, K] the oracle's score of every response, higher is better."""
        ...


def needing(world: Any, capability: Callable[..., C]) -> C:
    """The world, typed as one that has the capability. Raises ValueError for a world that lacks it.

    capability    a protocol's class. It is annotated by what it makes, because `type[C]` admits no abstract class.
    """
    protocol = cast(type[C], capability)
    if not isinstance(world, protocol):
        raise ValueError(f"this needs {_first_line(protocol)}, {_lacking(type(world))}")
    return world


def check(name: str, capabilities: tuple[type, ...], world: type) -> None:
    """Raise ValueError, in one sentence, if a world lacks a capability that the named method needs."""
    for capability in capabilities:
        if not issubclass(world, capability):
            raise ValueError(f"{name} needs {_first_line(capability)}, {_lacking(world)}")


def _first_line(capability: type) -> str:
    return (capability.__doc__ or capability.__name__).splitlines()[0].rstrip(".")


def _lacking(world: type) -> str:
    return f"which {getattr(world, 'kind', world.__name__)} does not offer"
