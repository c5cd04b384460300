"""Padded batches: one row of token ids per response, with a mask of the scored tokens.

`data.pack` is the fast form; padded rows are accepted by every model, and the fast form must agree with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the policy reads it (ids), and as an oracle or a person reads it (context).

    context   text, or a list of chat messages; a `records.Conversation` where tools or template settings belong to it,
              which every later rendering of the prompt uses too
    """

    ids: Ids
    context: Any = field(compare=False)
    text: str = field(compare=False, default="")


@dataclass(frozen=True)
class Response:
    """A response: its scored token ids (with the end-of-turn token unless it was cut), and its text.

    lead    a further prefix between prompt and response, read and never scored, such as an earlier answer and a
            revision turn that asks for a better one; () for a response that follows its prompt directly
    logp    log-prob under the policy that sampled it, given prompt and lead, in nats
    between further tokens that are read and never scored, such as a tool's result between two turns of the assistant:
            (number of scored tokens before them, ids) in order, each number above 0 and below len(ids)
    """

    ids: Ids
    text: str = field(compare=False)
    finished: bool = True
    logp: float | None = field(compare=False, default=None)
    lead: Ids = ()
    between: tuple[tuple[int, Ids], ...] = ()


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


def between_of(response: ScoredIds) -> tuple[tuple[int, Ids], ...]:
    """The tokens that are read between a response's scored ones, with their places; often ()."""
    return response.between if isinstance(response, Response) else ()


def laid_out(response: ScoredIds) -> tuple[Ids, tuple[bool, ...]]:
    """(ids, scored): all tokens behind the prompt in their order, and which of them are scored."""
    lead, ids = lead_and_ids(response)
    between = between_of(response)
    if not between:
        return lead + ids, (False,) * len(lead) + (True,) * len(ids)
    pieces = [(lead, False)]
    begin = 0
    for place, read in between:
        pieces += [(ids[begin:place], True), (read, False)]
        begin = place
    pieces.append((ids[begin:], True))
    tokens = tuple(chain.from_iterable(piece for piece, _ in pieces))
    return tokens, tuple(scored for piece, scored in pieces for _ in piece)


def gathered(tokens: Ids, scored: Sequence[bool]) -> Response:
    """The inverse of `laid_out`, for tokens of which the last is scored; the response has no text."""
    ids: list[int] = []
    reads: dict[int, list[int]] = {}
    for token, counts in zip(tokens, scored, strict=True):
        (ids if counts else reads.setdefault(len(ids), [])).append(token)
    lead = tuple(reads.pop(0, ()))
    return Response(
        tuple(ids), "", lead=lead, between=tuple((place, tuple(read)) for place, read in reads.items())
    )


def cut(response: Response, room: int) -> Response:
    """The first `room` tokens of a response, which then is not finished; tokens that are only read cannot be its last.

    A response that fits is returned unchanged. It may keep no scored token: its ids are then ().
    """
    tokens, scored = laid_out(response)
    if len(tokens) <= room:
        return response
    end = next((k for k in range(max(room, 0), 0, -1) if scored[k - 1]), 0)
    short = gathered(tokens[:end], scored[:end])
    return Response(
        short.ids, response.text, finished=False, logp=response.logp, lead=short.lead, between=short.between
    )


def row_length(prompt: Ids, response: ScoredIds) -> int:
    """Tokens of a row: prompt, lead and response, with what is read in between."""
    reads = sum(len(read) for _, read in between_of(response))
    return len(prompt) + sum(map(len, lead_and_ids(response))) + reads


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
    """Rows of prompt, lead and response, padded to the longest; only the response's own tokens are scored.

    Raises ValueError for an empty prompt, an empty response or uneven K.
    """
    shape = (len(prompts), width(prompts, responses))
    rows = list(_rows(prompts, responses))
    longest = max(len(tokens) for tokens, _ in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    attention = torch.zeros((len(rows), longest), dtype=torch.long)
    scored = torch.zeros((len(rows), longest), dtype=torch.bool)
    for row, (tokens, counts) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        attention[row, : len(tokens)] = 1
        scored[row, : len(tokens)] = torch.tensor(counts)
    return TokenBatch(ids, attention, scored, shape)


def _rows(
    prompts: Sequence[Ids], responses: Sequence[Sequence[ScoredIds]]
) -> Iterator[tuple[Ids, tuple[bool, ...]]]:
    for prompt, group in zip(prompts, responses, strict=True):
        for tokens, scored in map(laid_out, group):
            yield prompt + tokens, (False,) * len(prompt) + scored
