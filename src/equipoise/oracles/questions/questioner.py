"""Oracles of single questions: the protocol, its failures, and how questions are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from equipoise.oracles.protocol import OraclePrompt
from equipoise.oracles.questions.verdicts import Verdict

Question: TypeAlias = tuple[Any, ...]  # (prompt, a, b) or (prompt, response)
Ask: TypeAlias = Callable[..., Awaitable[Verdict]]  # (prompt, a, b) or (prompt, response) -> Verdict


class Failure(Exception):
    """A question without a verdict.

    transient  whether asking again may help: a rate limit, a timeout, an answer that cannot be parsed
    after      seconds that the server asks to wait, or None
    cost       of the answer, in the units of the oracle's price: an answer that cannot be read is charged all the same
    unreadable  whether an answer came, and cannot be read
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool,
        after: float | None = None,
        cost: float = 0.0,
        unreadable: bool = False,
    ) -> None:
        self.transient, self.after, self.cost, self.unreadable = transient, after, cost, unreadable
        super().__init__(reason)


class SingleQuestions(Protocol):
    """An oracle that answers single questions, alone (`Questioner`) or many together (`Batched`).

    name      as the user gave it
    fingerprint  name and everything that its verdicts depend on: two oracles of one fingerprint share verdicts
    scores    whether it scores one response; False: it compares two
    both_orders  whether it prefers positions, so that comparisons are asked in both orders unless told otherwise
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def scores(self) -> bool: ...

    @property
    def both_orders(self) -> bool: ...


@runtime_checkable
class Questioner(SingleQuestions, Protocol):
    """An oracle that answers one question at a time.

    open      a session in which questions are asked as the policy says; its `ask` raises Failure for a question
              without a verdict. It makes one attempt: repeating is the caller's
    """

    def open(self, policy: Policy) -> AbstractAsyncContextManager[Ask]: ...


@runtime_checkable
class WithAttributes(Protocol):
    """A questioner of scores whose every verdict has named scores too (`Verdict.scores`), one for each attribute."""

    @property
    def attributes(self) -> tuple[str, ...]: ...


@runtime_checkable
class Remarking(Protocol):
    """A questioner with something that the user must know before the run, a sentence each."""

    @property
    def remarks(self) -> tuple[str, ...]: ...


@runtime_checkable
class Covering(Protocol):
    """A questioner that knows only some prompts. check_prompts raises OracleError for the first that it does not."""

    def check_prompts(self, prompts: Sequence[OraclePrompt]) -> None: ...


@runtime_checkable
class Priced(Protocol):
    """A questioner whose answers cost money.

    estimate(prompt, *responses) -> tokens and cost of one question, from the length of its text; an upper bound only as
    far as four characters are a token.
    """

    def estimate(self, prompt: OraclePrompt, *responses: str) -> Estimate: ...


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated tokens of a question (`input`, and at most `output` of the answer), and their cost."""

    input: float = 0.0
    output: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            input=self.input + other.input, output=self.output + other.output, cost=self.cost + other.cost
        )

    def __mul__(self, times: float) -> Estimate:
        return Estimate(input=self.input * times, output=self.output * times, cost=self.cost * times)


@runtime_checkable
class Batched(SingleQuestions, Protocol):
    """An oracle of single questions that answers many at once: a model in memory.

    batches(questions)   indices of the questions that are answered together, every one once. They depend on the
                         questions alone, stored verdicts or not, so that a repeated run rounds as the first one did
    answer(questions)    of one batch: a Verdict for each, or the Failure that there is instead
    """

    def batches(self, questions: Sequence[Question]) -> Sequence[Sequence[int]]: ...

    def answer(self, questions: Sequence[Question]) -> Sequence[Verdict | Failure]: ...


@runtime_checkable
class Mirrored(Protocol):
    """A questioner that draws itself which response comes first: each pair is asked once, P(b > a) = 1 - P(a > b).

    Two equal responses tie, and are not asked.

    together  how many questions it wants at hand, whatever the policy's concurrency
    """

    mirrored: bool
    together: int


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How questions are asked.

    concurrency   questions in flight at once
    retries       further attempts after a transient failure, with waits of `wait`, 2 `wait`, 4 `wait`, ... seconds, or
                  as long as the server asks for
    failures      share of all questions that may end without a verdict, rounded up; their comparisons are left out
    both_orders   compare in both orders and average: (P(a > b) + 1 - P(b > a)) / 2; None: as the oracle needs it
    most_calls    most questions that this process may ask; None: no limit
    most_cost     most that this oracle may cost, with all that is stored; None: no limit
    unreadable    value of a question whose every answer stayed unreadable, as its verdict; None: it has failed
    """

    concurrency: int = 1
    retries: int = 3
    wait: float = 1.0
    failures: float = 0.0
    both_orders: bool | None = None
    most_calls: int | None = None
    most_cost: float | None = None
    unreadable: float | None = None
