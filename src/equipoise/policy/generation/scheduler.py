"""What is in flight while sampling: which prompts have a place, which of their samples still write.

Group g holds a prompt, and its K samples are the slots g*K to g*K + K - 1. All of this lives on the host.
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

WORTH = 256  # keys that may be padded before another call is worth its overhead


@dataclass
class Step:
    """One more token for every row: `rows` are the slots that still write, and what follows is theirs, [R].

    start   tokens of each group's prompt that are in the cache.    age   tokens its samples were given since.
    """

    start: list[int]
    age: list[int]
    rows: Tensor
    groups: Tensor  # that the rows belong to
    tokens: Tensor
    positions: Tensor
    uniforms: Tensor
    whole: bool  # every slot writes
    _bias: dict[tuple[int, int | None], Tensor | None] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return max(self.age) + 1

    @cached_property
    def ages(self) -> Tensor:
        """[R] of the rows."""
        return torch.tensor(self.age, device=self.rows.device)[self.groups]

    @cached_property
    def distinct(self) -> tuple[slice | Tensor, slice | Tensor]:
        """Rows that differ, and which of these each row is: the samples of a prompt have their first step in common."""
        fresh = self.ages == 0
        if not bool(fresh.any()):
            return slice(None), slice(None)
        kept = ~fresh | (self.groups != self.groups.roll(1))
        kept[0] = True
        return kept.nonzero()[:, 0], kept.cumsum(0) - 1

    @cached_property
    def runs(self) -> list[slice]:
        """Neighbouring groups whose attention is computed together, padded to their longest prompt."""
        if self.rows.device.type != "cpu":  # there a call costs more than padding
            return [slice(0, len(self.start))]
        found, begin = [], 0
        for end in range(1, len(self.start) + 1):
            inside = self.start[begin : end + 1]
            if end == len(self.start) or max(inside) * len(inside) > sum(inside) * 1.2 + WORTH:
                found.append(slice(begin, end))
                begin = end
        return found

    def bias(self, run: slice, window: int | None) -> Tensor | None:
        """[P, 1, 1, 1, width + depth]: 0 on keys that a group's queries may see, -inf on others; None if all are."""
        where = run.start, window
        if where not in self._bias:
            start, age = (torch.tensor(x[run])[:, None] for x in (self.start, self.age))
            key, own = torch.arange(int(start.max())), torch.arange(int(age.max()) + 1)
            seen, written = key < start, own <= age
            if window is not None:  # the query stands at start + age
                seen &= key > start + age - window
                written &= own > age - window
            seen = torch.cat([seen, written], 1)
            bias = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)[:, None, None, None]
            self._bias[where] = None if bool(seen.all()) else bias.to(self.rows.device)
        return self._bias[where]


class Scheduler:
    """`groups` places for prompts that are to be continued `count` times each.

    room       most tokens of each prompt's responses.      stops   tokens that end one.
    uniforms   (place, sample, how many) -> the numbers that a response is drawn with.
    refills    whether a prompt enters as soon as some places are free, or only when all are.
    """

    def __init__(
        self,
        prompts: Sequence[Ids],
        count: int,
        *,
        groups: int,
        room: Sequence[int],
        stops: Sequence[int],
        uniforms: Callable[[int, int, int], np.ndarray],
        places: Sequence[int],
        refills: bool,
    ) -> None:
        self.prompts, self.count, self.stops, self.refills = prompts, count, np.array(stops), refills
        self.uniforms, self.places = uniforms, places
        self.room, self.depth = np.array(room), max(room)
        # neighbours are of similar length, which wastes little; the longest come first: memory never grows
        self.waiting = deque(sorted(range(len(prompts)), key=lambda i: -len(prompts[i])))
        self.groups = min(groups, len(prompts))
        self.prompt = np.zeros(self.groups, int)  # which one is in each group
        self.age = np.zeros(self.groups, int)
        self.live = np.zeros((self.groups, count), bool)
        self.drawn = np.zeros((self.groups, count, self.depth))  # the uniforms of what is in flight
        # of every response
        shape = (len(prompts), count)
        self.ids = np.zeros((*shape, self.depth), np.int32)
        self.length = np.zeros(shape, int)
        self.logp = np.zeros(shape)
        self.finished = np.zeros(shape, bool)

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting) or bool(self.live.any())

    def enter(self) -> list[int]:
        """Groups whose places waiting prompts take now; none while too few are free to be worth a pass."""
        free = np.flatnonzero(~self.live.any(1))
        needed = min(self.groups, len(self.waiting))
        if not self.waiting or len(free) < (-(-needed // 4) if self.refills else self.groups):
            return []
        entering = free[: len(self.waiting)].tolist()
        for group in entering:
            index = self.waiting.popleft()
            self.prompt[group], self.age[group], self.live[group] = index, 0, True
            for sample in range(self.count):
                self.drawn[group, sample] = self.uniforms(self.places[index], sample, self.depth)
        return entering

    def held(self, groups: Sequence[int]) -> list[Ids]:
        return [self.prompts[self.prompt[group]] for group in groups]

    def shrink(self) -> list[int]:
        """Groups that stay, when nothing waits and half of them have ended."""
        staying = np.flatnonzero(self.live.any(1))
        if self.waiting or 2 * len(staying) > self.groups:
            return []
        self.groups = len(staying)
        self.prompt, self.age = self.prompt[staying], self.age[staying]
        self.live, self.drawn = self.live[staying], self.drawn[staying]
        return staying.tolist()

    def step(self, device: torch.device) -> Step:
        group, sample = self.live.nonzero()
        index, age = self.prompt[group], self.age[group]
        # a place that waits for its next prompt must not widen anybody's view
        kept = self.live.any(1)
        start = np.array([len(self.prompts[i]) - 1 for i in self.prompt]) * kept
        last = np.array([self.prompts[i][-1] for i in self.prompt])
        tokens = np.where(age == 0, last[group], self.ids[index, sample, age - 1])

        def put(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        return Step(
            start=start.tolist(),
            age=(self.age * kept).tolist(),
            rows=put(group * self.count + sample),
            groups=put(group),
            tokens=put(tokens.astype(np.int64)),
            positions=put(start[group] + age),
            uniforms=put(self.drawn[group, sample, age]),
            whole=bool(self.live.all()),
        )

    def record(self, token: np.ndarray, logp: np.ndarray) -> None:
        """The tokens that the rows of `step` drew."""
        group, sample = self.live.nonzero()
        index, age = self.prompt[group], self.age[group]
        self.ids[index, sample, age] = token
        self.logp[index, sample] += logp
        self.length[index, sample] = age + 1
        self.finished[index, sample] = ended = np.isin(token, self.stops)
        self.live[group, sample] = ~ended & (age + 1 < self.room[index])
        self.age[self.live.any(1)] += 1

    def written(self) -> list[tuple[list[int], bool, float]]:
        """(ids, whether a stop token ended them, log-prob) of all responses, prompt by prompt."""
        ids = self.ids.reshape(-1, self.depth)
        rows = zip(ids, self.length.ravel(), self.finished.ravel(), self.logp.ravel(), strict=True)
        return [(row[:n].tolist(), bool(finished), float(logp)) for row, n, finished, logp in rows]
