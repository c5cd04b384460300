"""Continuous batching: which prompts occupy slots, and which of their samples are unfinished.

A prompt occupies a group g; its K samples are the slots g*K to g*K + K - 1. All state here is on the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from equipoise.data.collate import Ids

Ended = Callable[[Sequence[int]], bool]  # the tokens of a response so far -> whether it is cut there
MAX_PADDED_KEYS = 256  # of a run of groups, besides a fifth; more padding is dearer than another call


@dataclass
class DecodeStep:
    """One decoding step: one more token for each of R unfinished samples.

    prefix_lengths   for each group, tokens of its prompt that are in the KV cache.
    own_lengths      for each group, tokens fed to its samples since then.
    rows             [R] slots of the unfinished samples; groups [R] the groups of these slots.
    tokens           [R] the tokens to feed, at `positions` [R].
    uniforms         [R] the numbers that the next tokens are sampled with.
    all_active       whether every slot is unfinished, so that `rows` is all of them.
    """

    prefix_lengths: list[int]
    own_lengths: list[int]
    rows: Tensor
    groups: Tensor
    tokens: Tensor
    positions: Tensor
    uniforms: Tensor
    all_active: bool
    _bias: dict[tuple[int, int | None], Tensor | None] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Own tokens of the longest sample after this step."""
        return max(self.own_lengths) + 1

    @cached_property
    def row_own_lengths(self) -> Tensor:
        """[R] own tokens of each row's sample before this step."""
        return torch.tensor(self.own_lengths, device=self.rows.device)[self.groups]

    @cached_property
    def distinct(self) -> tuple[slice | Tensor, slice | Tensor]:
        """(rows that differ, for each of the R rows its index there): a prompt's samples share their first step."""
        first_step = self.row_own_lengths == 0
        if not bool(first_step.any()):
            return slice(None), slice(None)
        kept = ~first_step | (self.groups != self.groups.roll(1))
        kept[0] = True
        return kept.nonzero()[:, 0], kept.cumsum(0) - 1

    @cached_property
    def runs(self) -> list[slice]:
        """Runs of neighbouring groups whose attention is one call, padded to their longest prompt."""
        if self.rows.device.type != "cpu":  # there a call costs more than padding
            return [slice(0, len(self.prefix_lengths))]
        runs, begin = [], 0
        for end in range(1, len(self.prefix_lengths) + 1):
            lengths = self.prefix_lengths[begin : end + 1]
            if (
                end == len(self.prefix_lengths)
                or max(lengths) * len(lengths) > sum(lengths) * 1.2 + MAX_PADDED_KEYS
            ):
                runs.append(slice(begin, end))
                begin = end
        return runs

    def bias(self, run: slice, window: int | None) -> Tensor | None:
        """Attention bias [P, 1, 1, 1, width + depth]: 0 on keys that a group's queries see, else -inf; None if all are.

        window    of a sliding-window layer; None: every earlier key is visible.
        """
        where = run.start, window
        if where not in self._bias:
            prefix, own = (torch.tensor(x[run])[:, None] for x in (self.prefix_lengths, self.own_lengths))
            prefix_keys, own_keys = torch.arange(int(prefix.max())), torch.arange(int(own.max()) + 1)
            sees_prefix, sees_own = prefix_keys < prefix, own_keys <= own
            if window is not None:  # the query stands at prefix + own
                sees_prefix &= prefix_keys > prefix + own - window
                sees_own &= own_keys > own - window
            visible = torch.cat([sees_prefix, sees_own], 1)
            bias = torch.zeros(visible.shape).masked_fill_(~visible, -torch.inf)[:, None, None, None]
            self._bias[where] = None if bool(visible.all()) else bias.to(self.rows.device)
        return self._bias[where]


class Scheduler:
    """Continuous batching: `groups` prompts at a time, each continued `count` times; finished groups take new prompts.

    max_new_tokens   for each prompt, the most tokens of a response.      stops   token ids that end one.
    uniforms         (place, sample, n) -> n uniform numbers that a response is sampled with.
    places           for each prompt, the place under which its random streams are addressed.
    refills          True: waiting prompts enter as soon as some groups are free; False: only once all are.
    ended            says of a response's tokens so far whether it is cut there; None: only its length cuts it.
    """

    def __init__(
        self,
        prompts: Sequence[Ids],
        count: int,
        *,
        groups: int,
        max_new_tokens: Sequence[int],
        stops: Sequence[int],
        uniforms: Callable[[int, int, int], np.ndarray],
        places: Sequence[int],
        refills: bool,
        ended: Ended | None = None,
    ) -> None:
        self.prompts, self.count, self.stops, self.refills = prompts, count, np.array(stops), refills
        self.uniforms, self.places, self.ended = uniforms, places, ended
        self.max_new_tokens, self.depth = np.array(max_new_tokens), max(max_new_tokens)
        # neighbours are of similar length, which wastes little; the longest come first: memory never grows
        self.waiting = deque(sorted(range(len(prompts)), key=lambda i: -len(prompts[i])))
        self.groups = min(groups, len(prompts))
        self.prompt_of_group = np.zeros(self.groups, int)
        self.own_lengths = np.zeros(self.groups, int)
        self.active = np.zeros((self.groups, count), bool)
        self.group_uniforms = np.zeros((self.groups, count, self.depth))
        # of every response
        shape = (len(prompts), count)
        self.ids = np.zeros((*shape, self.depth), np.int32)
        self.length = np.zeros(shape, int)
        self.logp = np.zeros(shape)
        self.finished = np.zeros(shape, bool)

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting) or bool(self.active.any())

    def admit(self) -> list[int]:
        """Move waiting prompts into free groups and return these; none while too few are free to be worth a prefill."""
        free = np.flatnonzero(~self.active.any(1))
        needed = min(self.groups, len(self.waiting))
        if not self.waiting or len(free) < (-(-needed // 4) if self.refills else self.groups):
            return []
        admitted: list[int] = free[: len(self.waiting)].tolist()
        for group in admitted:
            index = self.waiting.popleft()
            self.prompt_of_group[group], self.own_lengths[group], self.active[group] = index, 0, True
            for sample in range(self.count):
                self.group_uniforms[group, sample] = self.uniforms(self.places[index], sample, self.depth)
        return admitted

    def prompts_of(self, groups: Sequence[int]) -> list[Ids]:
        """Token ids of the groups' prompts."""
        return [self.prompts[self.prompt_of_group[group]] for group in groups]

    def compact(self) -> list[int]:
        """Drop finished groups once no prompt waits and half are finished; the groups kept, renumbered in order.

        Returns [] where nothing is dropped.
        """
        kept = np.flatnonzero(self.active.any(1))
        if self.waiting or 2 * len(kept) > self.groups:
            return []
        self.groups = len(kept)
        self.prompt_of_group, self.own_lengths = self.prompt_of_group[kept], self.own_lengths[kept]
        self.active, self.group_uniforms = self.active[kept], self.group_uniforms[kept]
        return kept.tolist()

    def next_step(self, device: torch.device) -> DecodeStep:
        """The next decoding step of all unfinished samples."""
        group, sample = self.active.nonzero()
        index, own = self.prompt_of_group[group], self.own_lengths[group]
        # a finished group that waits for its next prompt must not widen the others' attention
        occupied = self.active.any(1)
        prefix = np.array([len(self.prompts[i]) - 1 for i in self.prompt_of_group]) * occupied
        last = np.array([self.prompts[i][-1] for i in self.prompt_of_group])
        tokens = np.where(own == 0, last[group], self.ids[index, sample, own - 1])

        def to_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        return DecodeStep(
            prefix_lengths=prefix.tolist(),
            own_lengths=(self.own_lengths * occupied).tolist(),
            rows=to_device(group * self.count + sample),
            groups=to_device(group),
            tokens=to_device(tokens.astype(np.int64)),
            positions=to_device(prefix[group] + own),
            uniforms=to_device(self.group_uniforms[group, sample, own]),
            all_active=bool(self.active.all()),
        )

    def record(self, token: np.ndarray, logp: np.ndarray) -> None:
        """Append the sampled tokens [R] of the last step and add their log-probs [R]."""
        group, sample = self.active.nonzero()
        index, own = self.prompt_of_group[group], self.own_lengths[group]
        self.ids[index, sample, own] = token
        self.logp[index, sample] += logp
        self.length[index, sample] = own + 1
        self.finished[index, sample] = stopped = np.isin(token, self.stops)
        going = ~stopped & (own + 1 < self.max_new_tokens[index])
        if self.ended:
            for row in going.nonzero()[0]:
                response = self.ids[index[row], sample[row], : own[row] + 1]
                going[row] = not self.ended(response.tolist())
        self.active[group, sample] = going
        self.own_lengths[self.active.any(1)] += 1

    def completions(self) -> list[tuple[list[int], bool, float]]:
        """(ids, whether a stop token ended them, log-prob) of all responses, prompt by prompt."""
        ids = self.ids.reshape(-1, self.depth)
        rows = zip(ids, self.length.ravel(), self.finished.ravel(), self.logp.ravel(), strict=True)
        return [(row[:n].tolist(), bool(finished), float(logp)) for row, n, finished, logp in rows]
