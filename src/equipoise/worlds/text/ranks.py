"""Processes of a run: work dealt among them by place, and what each has made gathered by all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import pad

T = TypeVar("T")
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, which all run the same program.

    Of N rows, process r of R has the places r, r + R, r + 2 R, ...; random numbers are addressed by place, so that a
    sampled text does not depend on R. Between processes go bytes: safetensors and JSON, nothing that could be run.
    Every method that takes or gives what is gathered must be called by all processes in the same order.
    """

    accelerator: Accelerator

    @property
    def size(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes the run folder and asks oracles that are paid or limited."""
        return bool(self.accelerator.is_main_process)

    def mine(self, count: int) -> Places:
        """Places of this process's share of `count` rows."""
        return np.arange(self.accelerator.process_index, count, self.size)

    def gathered(self, own: bytes) -> list[bytes]:
        """What each process gives, in order of the processes."""
        if self.size == 1:
            return [own]
        device = self.accelerator.device
        lengths = self.accelerator.gather(torch.tensor([len(own)], device=device)).tolist()
        flat = torch.frombuffer(bytearray(own or b"\0"), dtype=torch.uint8)[: len(own)].to(device)
        rows = self.accelerator.gather(pad(flat, (0, max(lengths) - len(own)))[None])
        return [bytes(row[:n].cpu().numpy()) for row, n in zip(rows, lengths, strict=True)]

    def agreed(self, decide: Callable[[], bool]) -> bool:
        """What the first process decides: a file may appear between two processes' looks."""
        return self.gathered(b"1" if self.first and decide() else b"")[0] == b"1"

    def once(self, act: Callable[[], object]) -> None:
        """Run `act` on the first process; the others wait until it is done."""
        if self.first:
            act()
        self.accelerator.wait_for_everyone()

    def from_first(self, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that the first process makes, for all."""
        if self.size == 1:
            return make()
        return load(self.gathered(save(_contiguous(make())) if self.first else b"")[0])

    def rows(self, count: int, make: Callable[[Places], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors with a row for each of `count` places, of which each process makes its share.

        make(places) -> name -> [len(places), ...]; shares whose further dimensions differ in length are filled up with
        0. It is not called for a share without places.
        """
        if self.size == 1 or not count:
            return make(np.arange(count))
        places = self.mine(count)
        parts = self.gathered(save(_contiguous(make(places))) if len(places) else b"")
        shares = [load(part) for part in parts if part]
        return {name: dealt_back([share[name] for share in shares], count) for name in shares[0]}

    def items(
        self,
        count: int,
        make: Callable[[Places], Sequence[T]],
        pack: Callable[[Sequence[T]], bytes],
        unpack: Callable[[bytes], Sequence[T]],
    ) -> list[T]:
        """The same for objects of any kind, by their bytes."""
        if self.size == 1:
            return list(make(np.arange(count)))
        shares = [unpack(part) for part in self.gathered(pack(make(self.mine(count))))]
        return [shares[place % self.size][place // self.size] for place in range(count)]


def dealt_back(shares: Sequence[Tensor], count: int) -> Tensor:
    """Rows 0, 1, ... of which share r has every len(shares)-th from r on."""
    shape = [max(share.shape[d] for share in shares) for d in range(1, shares[0].dim())]
    whole = shares[0].new_zeros(count, *shape)
    for rank, share in enumerate(shares):
        within = (slice(rank, None, len(shares)), *(slice(0, n) for n in share.shape[1:]))
        whole[within] = share
    return whole


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
