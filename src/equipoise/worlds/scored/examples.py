"""Stored examples (segments, images) as arrays: a response of a row is an index into them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]
Indices = npt.NDArray[np.intp]


class Examples:
    """Examples held as named arrays with a common first axis.

    They are only appended to, so that an index means the same example for the length of a run.

    Raises ValueError for no arrays, arrays of different lengths, or an addition of other names, shapes or dtypes.
    """

    def __init__(self, arrays: Arrays) -> None:
        if not arrays:
            raise ValueError("examples need at least one array")
        self._length = _length(arrays)
        self._kinds = {name: (array.shape[1:], array.dtype) for name, array in arrays.items()}
        self._parts = {name: [np.ascontiguousarray(array)] for name, array in arrays.items()}

    def __len__(self) -> int:
        return self._length

    @property
    def arrays(self) -> dict[str, Array]:
        """Name -> [N, ...] of all examples."""
        for name, parts in self._parts.items():
            if len(parts) > 1:
                self._parts[name] = [np.concatenate(parts)]
        return {name: parts[0] for name, parts in self._parts.items()}

    def append(self, arrays: Arrays) -> Indices:
        """Add examples; returns their indices."""
        kinds = {name: (array.shape[1:], array.dtype) for name, array in arrays.items()}
        if kinds != self._kinds:
            raise ValueError(f"examples are {_said(self._kinds)}, these are {_said(kinds)}")
        begin, more = self._length, _length(arrays)
        for name, array in arrays.items():
            self._parts[name].append(np.ascontiguousarray(array))
        self._length += more
        return np.arange(begin, begin + more)

    def since(self, begin: int) -> dict[str, Array]:
        """Name -> the examples from an index on."""
        return {name: array[begin:] for name, array in self.arrays.items()}

    def numpy(self, which: Indices) -> dict[str, Array]:
        """Name -> [*which.shape, ...] of the examples at some indices."""
        return {name: array[which] for name, array in self.arrays.items()}

    def tensors(self, which: Indices) -> dict[str, Tensor]:
        """The same as tensors."""
        return {name: torch.from_numpy(array) for name, array in self.numpy(which).items()}


def _length(arrays: Arrays) -> int:
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise ValueError(
            f"the arrays of examples have different lengths: {', '.join(f'{n} {len(a)}' for n, a in arrays.items())}"
        )
    return lengths.pop()


def _said(kinds: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]]) -> str:
    return ", ".join(f"{name} {list(shape)} {dtype}" for name, (shape, dtype) in kinds.items())
