"""Segments of a packed row: where they are, and which of them one attention call computes together."""

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

# segments whose lengths agree after rounding up to this multiple are one call, padded to the longest
PAD_MULTIPLE = 16
# segments of at least this many tokens are one call each, because a call costs less than gathering them
MIN_UNBATCHED = 64
# sequences shorter than this are one segment each, behind their own copy of the prompt, because calls cost more
MAX_WHOLE_SEQUENCE = 64

Tree = Sequence[tuple[int, Sequence[int]]]  # for each prompt: its length, and the lengths of its branches
Span = tuple[int, int]  # begin in the row, length


class Segment(NamedTuple):
    """A contiguous piece of attention input put together from spans of the row.

    parts    (span of the row, its offset in the segment), in order.
    """

    parts: tuple[tuple[Span, int], ...]
    length: int

    @classmethod
    def of(cls, span: Span) -> Segment:
        return cls(((span, 0),) if span[1] else (), span[1])


@dataclass(frozen=True)
class SegmentBatch:
    """n segments of a row of S tokens, read and written as one batch [n, H, L, D], L the longest.

    A single segment that is one span is a view. Otherwise segments are gathered, with zeros where they have no part and
    after their ends; writing leaves the zeros out.
    """

    count: int
    longest: int
    begin: int = 0  # of the view
    gathered: tuple[Tensor, Tensor] | None = None  # [tokens] places in the row, [tokens] places in n * L

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device) -> SegmentBatch:
        longest = max(segment.length for segment in segments)
        parts = [(span, n * longest + at) for n, segment in enumerate(segments) for span, at in segment.parts]
        (begin, length), _ = parts[0]
        if len(parts) == 1 and length == longest:
            return cls(1, longest, begin)
        begins, lengths, offsets = np.array([(*span, at) for span, at in parts]).T
        row_places, batch_places = (
            torch.from_numpy(_runs(firsts, lengths)).to(device) for firsts in (begins, offsets)
        )
        return cls(len(segments), longest, gathered=(row_places, batch_places))

    def read(self, x: Tensor) -> Tensor:
        """[S, H, D] -> [n, H, L, D]."""
        if self.gathered is None:
            return x[self.begin : self.begin + self.longest].transpose(0, 1)[None]
        row_places, batch_places = self.gathered
        # index_select copies rows, which an index in brackets does several times slower
        batch = x.new_zeros(self.count * self.longest, *x.shape[1:])
        batch.index_copy_(0, batch_places, x.index_select(0, row_places))
        return batch.view(self.count, self.longest, *x.shape[1:]).transpose(1, 2)

    def write(self, x: Tensor, values: Tensor, *, add: bool = False) -> None:
        """The inverse of `read`: values [n, H, L, D] into x [S, H, D] in place, or added to it with `add`."""
        flat = values.transpose(1, 2).flatten(0, 1)
        if self.gathered is None:
            target = x[self.begin : self.begin + self.longest]
            target.add_(flat) if add else target.copy_(flat)
        else:
            row_places, batch_places = self.gathered
            (x.index_add_ if add else x.index_copy_)(0, row_places, flat.index_select(0, batch_places))


QueryKeyPair = tuple[Segment, Segment]  # queries, and the keys they read


class AttentionCall(NamedTuple):
    """One call of the attention kernel: queries read the keys up to their own place if causal, else all keys."""

    queries: SegmentBatch
    keys: SegmentBatch
    causal: bool


@dataclass(frozen=True)
class Layout:
    """Layout of a packed row: the tree of prompts and branches end to end; see `data.pack`.

    kept    places whose queries are needed, ascending; None: all. In every segment that has any they are the last
            ones, as the places that predict scored tokens are.
    form    which kernel of a GPU computes attention (`kernels.device_attention`); None: flash calls by segments on a
            CPU, one causal call on whole sequences elsewhere.
    """

    tree: Tree
    device: torch.device
    kept: tuple[int, ...] | None = None
    form: str | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt and branch."""
        return max(prompt + max(branches, default=0) for prompt, branches in self.tree)

    def query_span(self, begin: int, length: int) -> Span:
        """The span of a segment's queries among the queries that are needed."""
        if self.kept is None:
            return begin, length
        low, high = (bisect_left(self.kept, place) for place in (begin, begin + length))
        return low, high - low

    @cached_property
    def calls(self) -> list[AttentionCall]:
        """Attention calls that make up the row: causal ones, in which every query occurs once, then the others.

        A query of the other calls reads further keys, of its own branch and of its prompt; its results are merged by
        log-sum-exp. The two are never one call, in which a query would occur twice and lose one of its results.
        """
        causal: list[QueryKeyPair] = []
        earlier: list[QueryKeyPair] = []  # of the same branch
        across: list[QueryKeyPair] = []
        for prompt, branches in self.spans:
            if prompt[1] + max((length for _, length in branches), default=0) < MAX_WHOLE_SEQUENCE:
                causal += self._whole_sequences(prompt, branches)
                continue
            for begin, length in (prompt, *branches):
                first, count = self.query_span(begin, length)
                causal.append((Segment.of((first, count)), Segment.of((begin + length - count, count))))
                earlier.append((Segment.of((first, count)), Segment.of((begin, length - count))))
            if branches:
                first, end = branches[0][0], branches[-1][0] + branches[-1][1]
                across.append((Segment.of(self.query_span(first, end - first)), Segment.of(prompt)))
        calls = []
        for all_pairs, is_causal in ((causal, True), (earlier, False), (across, False)):
            for pairs in _grouped(all_pairs, is_causal):
                queries, keys = (
                    SegmentBatch.of(segments, self.device) for segments in zip(*pairs, strict=True)
                )
                calls.append(AttentionCall(queries, keys, is_causal))
        return calls

    def _whole_sequences(self, prompt: Span, branches: Sequence[Span]) -> list[QueryKeyPair]:
        """One pair for each sequence of a prompt; the prompt's own queries occur in the first only."""
        pairs: list[QueryKeyPair] = []
        for number, spans in enumerate([(prompt, branch) for branch in branches] or [(prompt,)]):
            keys: list[tuple[Span, int]] = []
            queries: list[tuple[Span, int]] = []
            end = 0
            for begin, length in spans:
                keys.append(((begin, length), end))
                end += length
                first, count = self.query_span(begin, length)
                if count and (begin != prompt[0] or not number):
                    queries.append(((first, count), end - count))
            pairs.append((Segment(tuple(queries), end), Segment(tuple(keys), end)))
        return pairs

    @cached_property
    def spans(self) -> list[tuple[Span, list[Span]]]:
        """Each prompt's span and those of its branches; empty branches are left out."""
        spans: list[tuple[Span, list[Span]]] = []
        begin = 0
        for prompt, branches in self.tree:
            inside: list[Span] = []
            end = begin + prompt
            for length in branches:
                inside += [(end, length)] * (length > 0)
                end += length
            spans.append(((begin, prompt), inside))
            begin = end
        return spans

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


def _grouped(pairs: list[QueryKeyPair], causal: bool) -> list[list[QueryKeyPair]]:
    """Pairs that one call computes: similar numbers of queries, and equal numbers of keys unless causal.

    Without a causal mask a padded key would count.
    """
    groups: dict[tuple[int, int, Segment | None], list[QueryKeyPair]] = defaultdict(list)
    for queries, keys in pairs:
        if queries.parts and keys.length:
            unbatched = queries if min(queries.length, keys.length) >= MIN_UNBATCHED else None
            groups[-queries.length // PAD_MULTIPLE, 0 if causal else keys.length, unbatched].append(
                (queries, keys)
            )
    return list(groups.values())
