"""FSDP2, fully sharded data parallel: weights, gradients and moments divided among the processes of a fit.

Each process keeps a share of every tensor, rows by rows. The weights of a transformer block are gathered for its
forward and again for its backward, while the products of the block before are computed, and its gradients are summed
over processes as soon as they are there. Embeddings and head are a group of their own, whole during a micro-batch.

PyTorch's `fully_shard` is called on our scorer. `Accelerator.prepare` would call it on the transformers model, whose
own forward is never called: log-probs come from its backbone and the head's weight.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from equipoise.models.errors import ModelError, first_line

# names of a module's methods that are called in place of its forward
METHODS = ("features",)


class Sharded:
    """A module divided among processes, `parts`, beside the whole one, whose weights take no memory meanwhile.

    groups    the modules of a module whose weights are gathered together; what is in none of them is one more group.

    Every method must be called by all processes. Raises ModelError for a module that FSDP does not take.
    """

    def __init__(
        self, module: nn.Module, processes: int, groups: Callable[[Any], Sequence[nn.Module]]
    ) -> None:
        self.whole, self.parts = module, _twin(module)
        mesh = init_device_mesh(next(module.parameters()).device.type, (processes,))
        # a block's states may be a view; nothing is done to them in place
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        try:
            for group, original in zip(groups(self.parts), groups(module), strict=True):
                fully_shard(group, mesh=mesh)
                _release(original)
            fully_shard(self.parts, mesh=mesh)
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"the model cannot be divided among processes ({first_line(error)}): leave train.sharding out"
            ) from error
        for name in METHODS:
            if hasattr(self.parts, name):
                register_fsdp_forward_method(self.parts, name)
        _release(module)
        self.pairs = list(zip(module.parameters(), self.parts.parameters(), strict=True))

    @torch.no_grad()
    def gather(self, *, drop: bool = False) -> None:
        """Fill the whole module, one weight at a time.

        drop    each part's memory is freed once it is gathered: nothing can be done with the parts any more.
        """
        self.settle()
        for whole, part in self.pairs:
            assert isinstance(part, DTensor)
            whole.data = part.full_tensor()
            memory, gathered = (t.untyped_storage() for t in (part.to_local(), whole.data))
            if drop and memory.data_ptr() != gathered.data_ptr():  # one process has one memory
                memory.resize_(0)

    def release(self) -> None:
        """Free the memory of the whole module's weights again."""
        _release(self.whole)

    def settle(self) -> None:
        """Let the last group go that a forward without a backward left gathered, so that parameters are shares."""
        assert isinstance(self.parts, FSDPModule)
        self.parts.reshard()


def _twin(module: nn.Module) -> nn.Module:
    """A copy of a module that shares the memory of its weights, not the weights."""
    shared: dict[int, Any] = {
        id(p): nn.Parameter(p.data, requires_grad=p.requires_grad) for p in module.parameters()
    }
    return copy.deepcopy(module, shared)


def _release(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.new_empty(0)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the rows of all processes, which must all call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def divided_as(like: DTensor, rows: Callable[[int, int], Tensor]) -> DTensor:
    """A tensor divided as another one is, from what gives the rows begin:end of the whole."""
    count, own = like.shape[0], like.to_local()
    size = -(-count // like.device_mesh.size())
    begin = min(like.device_mesh.get_local_rank() * size, count)
    values = rows(begin, begin + own.shape[0]).to(own.device)
    return DTensor.from_local(
        values, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
