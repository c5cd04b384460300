"""Sequence packing with shared prompts: all comparisons in one row, each prompt and response once, no padding.

A prompt is followed by its branches, one for each response: the response's lead (a further prefix, never scored) and
its tokens, scored or only read, except the last, which predicts nothing. Positions continue from the prompt's in every
branch, and the prompt's last token predicts the first token of every response without a lead. A token attends to its
prompt and its own branch, never to another branch; `policy.kernels.attention` enforces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from equipoise.core.logprob import Index
from equipoise.data.collate import Ids, ScoredIds, TokenBatch, laid_out, row_length, width

InRow: TypeAlias = Int[Tensor, "S"]
Distinct: TypeAlias = Int[Tensor, "M"]
Needed: TypeAlias = Int[Tensor, "A"]
# the number of tokens of each prompt, and of each of its branches
Tree: TypeAlias = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class PackedBatch:
    """B comparisons of K responses as one row of S tokens, in which equal prompts and equal responses occur once.

    ids, positions      [S] the tokens, and the position of each in its own sequence.
    predictor, target   [M] the index whose hidden state predicts a scored token, and that token.
    needed              [A] the predictors, ascending, each once, and what lies between them in a branch: in every
                        prompt and branch that has any they are the last ones.
    token, row          [N] for each scored token of the responses b*K + k in turn: its index among the M, and its
                        response. N > M where comparisons share responses.
    tree                lengths of prompts and branches in the order of the row; they sum to S.
    """

    ids: InRow
    positions: InRow
    predictor: Distinct
    target: Distinct
    needed: Needed
    token: Index
    row: Index
    tree: Tree
    shape: tuple[int, int]

    def to(self, device: torch.device) -> PackedBatch:
        tensors = ("ids", "positions", "predictor", "target", "needed", "token", "row")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt and branch."""
        return max(prompt + max(branches) for prompt, branches in self.tree)


Batch: TypeAlias = TokenBatch | PackedBatch


def pack(prompts: Sequence[Ids], responses: Sequence[Sequence[ScoredIds]]) -> PackedBatch:
    """Packs all comparisons into one row, in the order in which prompts first occur.

    Raises ValueError for an empty prompt, an empty response or uneven K, as `collate` does.
    """
    shape = (len(prompts), width(prompts, responses))
    laid = [[laid_out(response) for response in group] for group in responses]
    places: dict[Ids, dict[tuple[Ids, tuple[bool, ...]], range]] = {}
    for prompt, group in zip(prompts, laid, strict=True):
        places.setdefault(prompt, {}).update(dict.fromkeys(group, range(0)))
    ids: list[int] = []
    positions: list[range] = []
    predictor: list[int] = []
    target: list[int] = []
    needed: set[int] = set()
    tree = []
    for prompt, branches in places.items():
        ids += prompt
        positions.append(range(len(prompt)))
        end, lengths = len(ids), []
        for tokens, scored in branches:
            path = (end - 1, *range(len(ids), len(ids) + len(tokens) - 1))
            predictor += compress(path, scored)
            needed.update(path[scored.index(True) :])
            begin = len(target)
            target += compress(tokens, scored)
            branches[tokens, scored] = range(begin, len(target))
            ids += tokens[:-1]
            positions.append(range(len(prompt), len(prompt) + len(path) - 1))
            lengths.append(len(path) - 1)
        tree.append((len(prompt), tuple(lengths)))
    found = [places[p][branch] for p, group in zip(prompts, laid, strict=True) for branch in group]
    return PackedBatch(
        torch.tensor(ids),
        torch.tensor(list(chain.from_iterable(positions))),
        torch.tensor(predictor),
        torch.tensor(target),
        torch.tensor(sorted(needed)),
        torch.tensor(list(chain.from_iterable(found))),
        torch.arange(len(found)).repeat_interleave(torch.tensor(list(map(len, found)))),
        tuple(tree),
        shape,
    )


def packed_length(prompt: Ids, responses: Sequence[ScoredIds]) -> int:
    """Tokens of one comparison in a packed row, if it shares nothing with others."""
    return len(prompt) + sum(row_length((), response) - 1 for response in responses)


def shares(
    sizes: Sequence[int], budget: int, most: int | None = None, *, padded: bool = False
) -> Iterator[slice]:
    """Consecutive slices of at most `budget` in sum and `most` in number; an item above the budget is alone.

    With `padded`, every item of a slice counts as its largest.
    """
    begin, filled, largest = 0, 0, 0
    for place, size in enumerate(sizes):
        count, largest = place - begin + 1, max(largest, size)
        filled = count * largest if padded else filled + size
        if count > 1 and (filled > budget or (most is not None and count > most)):
            yield slice(begin, place)
            begin, filled, largest = place, size, size
    if begin < len(sizes):
        yield slice(begin, len(sizes))
