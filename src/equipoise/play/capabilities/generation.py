"""Capabilities of generation: segments, steps, prompts in the words of a template, self-written tests."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State, Who


@runtime_checkable
class RandomDraws(Protocol):
    """random draws of labels or comparisons."""

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        """`count` uniform draws on [0, 1), addressed by round and name."""
        ...


@runtime_checkable
class TeacherResponses(Protocol):
    """responses by a model behind a server (`play.teacher`)."""

    def taught(self, state: State, rows: Rows) -> Rows:
        """Append one response of the teacher to each row; it comes as text, without a log-prob."""
        ...


@runtime_checkable
class SegmentRewriting(Protocol):
    """resampling of response segments (SAPO)."""

    def rewrite(self, state: State, rows: Rows, by: Who, longest: int) -> Rows:
        """Append one response: the first one with a segment of at most `longest` tokens resampled from the policy.

        A response of an exact game is one token: all of it is resampled.
        """
        ...


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
class PromptTemplates(Protocol):
    """prompts in the words of a template, such as one that tells a direction among rewards (DPA)."""

    def conditioned(self, rows: Rows, templates: Sequence[str]) -> Rows:
        """The rows without responses; the policy reads prompt i in the words of template i, which holds `{prompt}`, and
        an oracle reads it as it was."""
        ...


class PassTables(NamedTuple):
    """Which self-written codes of each row pass which of its self-written tests.

    passed   [N, J, K] whether code j passes test k; False where either cannot be read.
    read     [N, K] whether the test can be read.
    """

    passed: npt.NDArray[np.bool_]
    read: npt.NDArray[np.bool_]


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
