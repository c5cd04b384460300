"""The oracle protocol, P(y beats y' | prompt), and the contract of every implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from torch import Tensor, nn

# A prompt as an oracle reads it: plain text, or chat messages {"role": ..., "content": ...}, with whatever else a turn
# has, such as "tool_calls". Where tools or template settings belong to it, the list is a `data.records.Conversation`,
# with the attributes `tools` and `template_kwargs`.
OraclePrompt: TypeAlias = "str | Sequence[dict[str, Any]]"


class OracleError(ValueError):
    """An oracle violates its contract or cannot answer; the message names the call, and what to do."""


def shortened(value: object) -> str:
    """A value as it is shown in messages: its representation, cut."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


@runtime_checkable
class Oracle(Protocol):
    """compare(prompts, a, b) -> [N] float64, the probability in [0, 1] that a[i] beats b[i] for prompts[i].

    Contract, checked by `checked.Checked`: on every call finite and in [0, 1]; on a sample of each call antisymmetric,
    P(a > b) + P(b > a) = 1. Deterministic: the same call gives the same answer. nan: no verdict; the comparison is
    left out, never guessed (only oracles with `may_fail`).
    score(prompts, responses) -> [N] float64, a scalar per response (higher is better); a general preference, which
    has no scalar, raises OracleError.
    """

    @property
    def name(self) -> str: ...

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor: ...

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor: ...


@runtime_checkable
class Counting(Protocol):
    """An oracle that says how far it is in a call: it calls `answered`, if set, with the number of new answers."""

    answered: Callable[[int], None] | None


@runtime_checkable
class Room(Protocol):
    """An oracle with a bounded context: it says beforehand how long a prompt is for it.

    room(prompts) -> (tokens of the longest prompt with an empty response, tokens that the oracle accepts); None: no
    bound.
    """

    @property
    def name(self) -> str: ...

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None: ...


@runtime_checkable
class Fingerprinted(Protocol):
    """An oracle that says what its verdicts depend on: two with one fingerprint give the same verdicts."""

    @property
    def fingerprint(self) -> str: ...


@runtime_checkable
class Attributed(Protocol):
    """An oracle with several named scores of a response, such as helpfulness and harmlessness.

    attributes  their names, in order; none: it has only the one score
    scores(prompts, responses) -> [N, A] float64, higher is better; a row is nan where there is no verdict
    """

    @property
    def attributes(self) -> tuple[str, ...]: ...

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor: ...


@runtime_checkable
class Fallible(Protocol):
    """An oracle whose answers may be nan: questions without a verdict."""

    may_fail: bool


@runtime_checkable
class SeesPolicy(Protocol):
    """A self-judging oracle: it asks the policy of the round, which the world shows it before every call.

    see(policy, digest)   policy: the model in memory (`policy.causal.CausalPolicy`) with the weights that judge;
                          digest: hash of these weights, which belongs to the keys of stored verdicts
    """

    def see(self, policy: Any, digest: str) -> None: ...


@runtime_checkable
class Uncertain(Protocol):
    """An oracle that is uncertain: it asks several members, or one model several times.

    votes(prompts, a, b) -> [T, N] float64, the probability of each member or pass t that a[i] beats b[i]; nan: none.
    """

    @property
    def name(self) -> str: ...

    def votes(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor: ...


@runtime_checkable
class Composed(Protocol):
    """An oracle that asks others, `parts`."""

    @property
    def parts(self) -> Sequence[Any]: ...


@runtime_checkable
class Networked(Protocol):
    """An oracle with a neural network of its own in memory."""

    @property
    def network(self) -> nn.Module: ...


C = TypeVar("C")


def parts_that(oracle: Any, can: Callable[..., C]) -> Iterator[C]:
    """The oracle and those that it asks, outermost first, as far as they follow a protocol.

    can    the protocol's class. It is annotated by what it makes, because `type[C]` admits no abstract class.
    """
    if isinstance(oracle, cast(type[C], can)):
        yield oracle
    if isinstance(oracle, Composed):
        for part in oracle.parts:
            yield from parts_that(part, can)


def may_fail(oracle: Any) -> bool:
    """Whether answers of an oracle may be nan, its own or those of an oracle that it asks."""
    return any(part.may_fail for part in parts_that(oracle, Fallible))
