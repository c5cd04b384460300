"""Where the segments of a packed row are, and which of them a call of attention reads together."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

STEP = 16  # segments whose lengths agree up to a multiple of this are computed in one call, padded to the longest;
ALONE = 64  # those of so many tokens are computed alone, because a call costs less than to gather them
WHOLE = 64  # sequences of fewer are one segment each, behind their own copy of the prompt, because calls cost more

Tree = Sequence[
    tuple[int, Sequence[int]]
]  # of each prompt its length, and the lengths of the branches behind it
Span = tuple[int, int]  # where it begins in the row, and its length


class Segment(NamedTuple):
    """Spans of the row one after another, each with its place in the segment, and the segment's length."""

    parts: tuple[tuple[Span, int], ...]
    length: int

    @classmethod
    def of(cls, span: Span) -> Segment:
        return cls(((span, 0),) if span[1] else (), span[1])


@dataclass(frozen=True)
class Segments:
    """n segments of a row of S tokens, read and written as [n, H, L, D] with L the longest.

    A segment that is one span, alone, is a view. Others are gathered, zeros where they have no part and after their
    ends; where they are written the zeros are left out.
    """

    count: int
    longest: int
    begin: int = 0  # of the one that is a view
    gathered: tuple[Tensor, Tensor] | None = None  # [tokens] places in the row, [tokens] places in n * L

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device) -> Segments:
        longest = max(segment.length for segment in segments)
        parts = [(span, n * longest + at) for n, segment in enumerate(segments) for span, at in segment.parts]
        (begin, length), _ = parts[0]
        if len(parts) == 1 and length == longest:
            return cls(1, longest, begin)
        begins, lengths, ats = np.array([(*span, at) for span, at in parts]).T
        places = [torch.from_numpy(_runs(firsts, lengths)).to(device) for firsts in (begins, ats)]
        return cls(len(segments), longest, gathered=(places[0], places[1]))

    def read(self, x: Tensor) -> Tensor:
        """[S, H, D] -> [n, H, L, D]."""
        if self.gathered is None:
            return x[self.begin : self.begin + self.longest].transpose(0, 1)[None]
        rows, where = self.gathered
        # index_select copies rows, which an index in brackets does several times slower
        found = x.new_zeros(self.count * self.longest, *x.shape[1:])
        found.index_copy_(0, where, x.index_select(0, rows))
        return found.view(self.count, self.longest, *x.shape[1:]).transpose(1, 2)

    def write(self, x: Tensor, values: Tensor, *, add: bool = False) -> None:
        """The inverse of `read`, into x; with `add` on top of what is there."""
        flat = values.transpose(1, 2).flatten(0, 1)
        if self.gathered is None:
            target = x[self.begin : self.begin + self.longest]
            target.add_(flat) if add else target.copy_(flat)
        else:
            rows, where = self.gathered
            (x.index_add_ if add else x.index_copy_)(0, rows, flat.index_select(0, where))


Pair = tuple[Segment, Segment]  # queries and their keys


class Block(NamedTuple):
    """Queries that read keys: themselves, causally, or all of the keys."""

    queries: Segments
    keys: Segments
    causal: bool


@dataclass(frozen=True)
class Layout:
    """Where the segments of a packed row are; see `data.pack` for the tree.

    kept    the only places whose queries are asked for, in their order; None: all. Of every segment that has any they
            are the last ones, as those are that predict scored tokens.
    """

    tree: Tree
    device: torch.device
    kept: tuple[int, ...] | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(prompt + max(branches, default=0) for prompt, branches in self.tree)

    def asked(self, begin: int, length: int) -> Span:
        """Of a segment, where its queries begin among those asked for, and how many they are."""
        if self.kept is None:
            return begin, length
        low, high = (bisect_left(self.kept, place) for place in (begin, begin + length))
        return low, high - low

    @cached_property
    def blocks(self) -> list[Block]:
        """Causal blocks, in which every query reads itself and is found once, then those of queries that read more."""
        causal, across = [], []
        for prompt, branches in self.spans:
            if prompt[1] + max((length for _, length in branches), default=0) < WHOLE:
                causal += self._whole(prompt, branches)
                continue
            for begin, length in (prompt, *branches):
                first, count = self.asked(begin, length)
                causal.append((Segment.of((first, count)), Segment.of((begin + length - count, count))))
                across.append((Segment.of((first, count)), Segment.of((begin, length - count))))
            if branches:
                first, end = branches[0][0], branches[-1][0] + branches[-1][1]
                across.append((Segment.of(self.asked(first, end - first)), Segment.of(prompt)))
        return [
            Block(*(Segments.of(segments, self.device) for segments in zip(*pairs, strict=True)), itself)
            for all_pairs, itself in ((causal, True), (across, False))
            for pairs in _alike(all_pairs, itself)
        ]

    def _whole(self, prompt: Span, branches: Sequence[Span]) -> list[Pair]:
        """Queries and keys of the sequences of a prompt; those of the prompt itself ask once, in the first."""
        found = []
        for number, spans in enumerate([(prompt, branch) for branch in branches] or [(prompt,)]):
            keys, queries, end = [], [], 0
            for begin, length in spans:
                keys.append(((begin, length), end))
                end += length
                first, count = self.asked(begin, length)
                if count and (begin != prompt[0] or not number):
                    queries.append(((first, count), end - count))
            found.append((Segment(tuple(queries), end), Segment(tuple(keys), end)))
        return found

    @cached_property
    def spans(self) -> list[tuple[Span, list[Span]]]:
        """Each prompt and its branches; empty branches are left out."""
        found, begin = [], 0
        for prompt, branches in self.tree:
            inside = []
            end = begin + prompt
            for length in branches:
                inside += [(end, length)] * (length > 0)
                end += length
            found.append(((begin, prompt), inside))
            begin = end
        return found

    @cached_property
    def sequences(self) -> tuple[Tensor, Tensor]:
        """([n, T] place in the row of each token of each whole sequence, [S] one place in n * T of each token)."""
        rows = []
        for (begin, length), branches in self.spans:
            prompt = torch.arange(begin, begin + length)
            rows += [torch.cat([prompt, torch.arange(b, b + n)]) for b, n in branches] or [prompt]
        places = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        source = torch.empty(sum(p + sum(b) for p, b in self.tree), dtype=torch.long)
        for number, row in enumerate(rows):
            source[row] = torch.arange(len(row)) + number * places.shape[1]
        return places.to(self.device), source.to(self.device)


def _runs(firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """first, first + 1, ... of each run, end to end."""
    ends = lengths.cumsum()
    return np.arange(ends[-1]) + np.repeat(firsts - (ends - lengths), lengths)


def _alike(pairs: list[Pair], causal: bool) -> list[list[Pair]]:
    """Queries and keys that one call computes: of nearly as many queries, and unless they are causal of equally many
    keys, because a key too many would count."""
    groups = defaultdict(list)
    for queries, keys in pairs:
        if queries.parts and keys.length:
            alone = queries if min(queries.length, keys.length) >= ALONE else None
            groups[-queries.length // STEP, 0 if causal else keys.length, alone].append((queries, keys))
    return list(groups.values())
