"""Padded batches: one row of token ids per response, with a mask of the scored tokens.

`data.pack` is the fast form; padded rows are accepted by every model, and the fast form must agree with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the policy reads it (ids), and as an oracle or a person reads it (context)."""

    ids: Ids
    context: Any = field(compare=False)  # text, or a list of chat messages
    text: str = field(compare=False, default="")


@dataclass(frozen=True)
class Response:
    """A response: its scored token ids (with the end-of-turn token unless it was cut), and its text.

    lead    a further prefix between prompt and response, read and never scored, such as an earlier answer and a
            revision turn that asks for a better one; () for a response that follows its prompt directly
    logp    log-prob under the policy that sampled it, given prompt and lead, in nats
    """

    ids: Ids
    text: str = field(compare=False)
    finished: bool = True
    logp: float | None = field(compare=False, default=None)
    lead: Ids = ()


ScoredIds: TypeAlias = Ids | Response  # a response, or the ids alone of a response without a lead


@dataclass(frozen=True)
class TokenBatch:
    """B comparisons of K responses as R = B*K right-padded rows; row b*K + k is response k of comparison b.

    ids [R, T]   attention [R, T] (1 on real tokens)   scored [R, T] (True on the response's tokens)
    """

    ids: Int[Tensor, "R T"]
    attention: Int[Tensor, "R T"]
    scored: Bool[Tensor, "R T"]
    shape: tuple[int, int]

    def to(self, device: torch.device) -> TokenBatch:
        return TokenBatch(self.ids.to(device), self.attention.to(device), self.scored.to(device), self.shape)

    @property
    def tokens(self) -> int:
        """Real tokens in the batch, padding not counted."""
        return int(self.attention.sum())


def lead_and_ids(response: ScoredIds) -> tuple[Ids, Ids]:
    """(lead, scored ids) of a response; the lead is the unscored prefix between prompt and response, often ()."""
    return (response.lead, response.ids) if isinstance(response, Response) else ((), response)


def row_length(prompt: Ids, response: ScoredIds) -> int:
    """Tokens of a row: prompt, lead and response."""
    return len(prompt) + sum(map(len, lead_and_ids(response)))


def width(prompts: Sequence[Ids], responses: Sequence[Sequence[ScoredIds]]) -> int:
    """K, the number of responses of every comparison.

    Raises ValueError for an empty prompt, an empty response or uneven K.
    """
    widths = {len(candidates) for candidates in responses}
    if len(widths) != 1:
        raise ValueError(
            f"every comparison of a batch needs the same number of responses, got {sorted(widths)}"
        )
    if not all(prompts) or not all(lead_and_ids(r)[1] for group in responses for r in group):
        raise ValueError("every row needs at least one prompt token (BOS will do) and one response token")
    return widths.pop()


def collate(prompts: Sequence[Ids], responses: Sequence[Sequence[ScoredIds]], pad: int) -> TokenBatch:
    """Rows of prompt, lead and response, padded to the longest; only the response is scored.

    Raises ValueError for an empty prompt, an empty response or uneven K.
    """
    shape = (len(prompts), width(prompts, responses))
    rows = [
        (prompt, *lead_and_ids(response))
        for prompt, group in zip(prompts, responses, strict=True)
        for response in group
    ]
    longest = max(sum(map(len, row)) for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    attention = torch.zeros((len(rows), longest), dtype=torch.long)
    scored = torch.zeros((len(rows), longest), dtype=torch.bool)
    for row, (prompt, lead, response) in enumerate(rows):
        start = len(prompt) + len(lead)
        end = start + len(response)
        ids[row, :end] = torch.tensor(prompt + lead + response)
        attention[row, :end] = 1
        scored[row, start:end] = True
    return TokenBatch(ids, attention, scored, shape)
