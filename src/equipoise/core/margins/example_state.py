"""Per-example buffers of a fit, keyed by the example's index: temperatures, running means, velocities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SEEN = "seen"


class ExampleState:
    """Named buffers [N] with one number for each of N training examples, and which examples were visited.

    read(index) gives a batch's part, write(index, ...) stores what its step computed; neither carries a gradient.
    `tensors` and `restored` are what a checkpoint holds, so that a resumed fit goes on with the same numbers.
    Raises ValueError for an index outside 0..N-1, twice the same index in one write, or a buffer of another name.
    """

    def __init__(self, size: int, **starts: float) -> None:
        if size < 1 or SEEN in starts:
            raise ValueError(f"a state needs one example or more, and no buffer {SEEN!r} of the caller's")
        self._buffers = {name: torch.full((size,), float(start)) for name, start in starts.items()}
        self._seen = torch.zeros(size, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._seen)

    def read(self, index: Tensor) -> dict[str, Tensor]:
        """The buffers of a batch's examples [B], with "seen" [B], boolean."""
        self._check(index)
        return {name: buffer[index] for name, buffer in self._buffers.items()} | {SEEN: self._seen[index]}

    def write(self, index: Tensor, **values: Tensor) -> None:
        """Store numbers [B] of a batch's examples, which count as visited from now on."""
        self._check(index)
        if len(index.unique()) != len(index):
            raise ValueError(
                "a batch holds an example twice: which of its two numbers to keep is not defined"
            )
        for name, value in values.items():
            if name not in self._buffers:
                raise ValueError(f"no buffer {name!r} (there are: {', '.join(self._buffers)})")
            self._buffers[name][index] = value.detach().to(self._buffers[name])
        self._seen[index] = True

    def whole(self, name: str) -> Tensor:
        """A buffer of all examples, [N]; a copy."""
        return self._buffers[name].clone()

    def tensors(self) -> dict[str, Tensor]:
        """All buffers and what was seen, for a checkpoint."""
        return {name: b.clone() for name, b in self._buffers.items()} | {SEEN: self._seen.clone()}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor]) -> ExampleState:
        """The state that `tensors` wrote. Raises ValueError where buffers are missing or of unequal length."""
        sizes = {len(t) for t in tensors.values()}
        if SEEN not in tensors or len(sizes) != 1:
            raise ValueError(f"not the buffers of one state: {sorted(tensors)} of lengths {sorted(sizes)}")
        state = cls(sizes.pop(), **dict.fromkeys(set(tensors) - {SEEN}, 0.0))
        state._buffers = {name: t.clone() for name, t in tensors.items() if name != SEEN}
        state._seen = tensors[SEEN].clone().bool()
        return state

    def _check(self, index: Tensor) -> None:
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise ValueError(f"examples are 0..{len(self) - 1}, got {int(index.min())}..{int(index.max())}")
