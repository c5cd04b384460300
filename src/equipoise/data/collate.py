"""Token ids to batches: comparisons become padded rows, one per response, with a mask of what is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the policy reads it (ids) and as an oracle or a person reads it (context)."""

    ids: Ids
    context: Any = field(compare=False)  # text, or a list of chat messages
    text: str = field(compare=False, default="")


@dataclass(frozen=True)
class Response:
    """A response: its scored token ids (with the end-of-turn token unless it was cut), and its text."""

    ids: Ids
    text: str = field(compare=False)
    finished: bool = True
    logp: float | None = field(compare=False, default=None)  # under the policy that sampled it, nats


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


def collate(prompts: Sequence[Ids], responses: Sequence[Sequence[Ids]], pad: int) -> TokenBatch:
    """Pad to the longest row. Raises ValueError for an empty prompt, an empty response or uneven K."""
    widths = {len(candidates) for candidates in responses}
    if len(widths) != 1:
        raise ValueError(
            f"every comparison of a batch needs the same number of responses, got {sorted(widths)}"
        )
    rows = [
        (prompt, response) for prompt, group in zip(prompts, responses, strict=True) for response in group
    ]
    if any(not prompt or not response for prompt, response in rows):
        raise ValueError("every row needs at least one prompt token (BOS will do) and one response token")
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    attention = torch.zeros((len(rows), longest), dtype=torch.long)
    scored = torch.zeros((len(rows), longest), dtype=torch.bool)
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor(prompt + response)
        attention[row, :end] = 1
        scored[row, len(prompt) : end] = True
    return TokenBatch(ids, attention, scored, (len(prompts), widths.pop()))
