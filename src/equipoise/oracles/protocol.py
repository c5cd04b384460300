"""Who says that y beats y'? One protocol, and the checks every implementation must pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

# A prompt as the oracle sees it: plain text, or chat messages {"role": ..., "content": ...}.
OraclePrompt: TypeAlias = "str | Sequence[dict[str, str]]"


class OracleError(ValueError):
    """An oracle broke its contract, or cannot answer; the message says which call, and what to do."""


@runtime_checkable
class Oracle(Protocol):
    """compare(prompts, a, b) -> [N] float64, the probability in [0, 1] that a[i] beats b[i] for prompts[i].

    Contracts, checked by `checked` on every call: finite, in [0, 1]; and on a sample of calls antisymmetric,
    P(a > b) + P(b > a) = 1. Deterministic: the same call gives the same answer.
    score(prompts, responses) -> [N] float64, a scalar per response (higher is better); an oracle that has no
    scalar (a general preference) raises OracleError.
    """

    @property
    def name(self) -> str: ...

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor: ...

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor: ...
