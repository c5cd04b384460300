"""Which comparisons go through the model together: as many as its token budget allows, those that share neighbours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from equipoise.data.collate import Ids, Response, ScoredIds, row_length
from equipoise.data.pack import packed_length, shares
from equipoise.policy.causal import BUDGET, CausalPolicy

Pair = tuple[Ids, Sequence[ScoredIds]]  # one prompt's ids and its responses

LARGEST = 2**17
SHARE = 0.5  # of the memory that weights, gradients and moments leave
PROBE = 64  # tokens


def portions(policy: CausalPolicy, comparisons: Sequence[Pair], most: int | None = None) -> list[list[int]]:
    """Places of the comparisons, portion by portion; a function of data and settings alone.

    A portion holds at most `policy.budget` tokens (or one comparison) and at most `most` comparisons. In packed rows
    those of one prompt are neighbours, for they are computed once; of padded rows those of similar length.
    """
    if policy.scorer.reach:
        first: dict[Ids, int] = {}
        keys = [first.setdefault(prompt, len(first)) for prompt, _ in comparisons]
        sizes = [packed_length(*comparison) for comparison in comparisons]
    else:
        keys = [max(row_length(prompt, r) for r in group) for prompt, group in comparisons]
        sizes = [len(group) * key for key, (_, group) in zip(keys, comparisons, strict=True)]
    order = sorted(range(len(comparisons)), key=keys.__getitem__)
    found = shares([sizes[i] for i in order], policy.budget, most, padded=not policy.scorer.reach)
    return [order[share] for share in found]


def token_budget(policy: CausalPolicy) -> int:
    """Tokens whose activations fill a share of the device's memory, by what a probe of 64 tokens keeps; in powers of 2.

    Memory is the device's whole, less 4 bytes for every weight and 12 more for every trained one: the budget depends on
    machine and model, not on what else runs, so that a resumed run cuts its batches as before.
    """
    device, parameters = policy.device, list(policy.model.parameters())
    if device.type == "cuda":
        memory, largest = torch.cuda.get_device_properties(device).total_memory, LARGEST
    elif hasattr(os, "sysconf"):
        memory, largest = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), BUDGET
    else:  # Windows does not say
        return BUDGET
    free = memory - sum((16 if p.requires_grad else 4) * p.numel() for p in parameters)
    affordable = max(1, int(SHARE * free / bytes_per_token(policy)))
    return int(min(largest, 2 ** (affordable.bit_length() - 1)))


def bytes_per_token(policy: CausalPolicy) -> float:
    """What the forward of a probe keeps for the backward, weights not counted, for each of its tokens."""
    size = policy.model.get_input_embeddings().weight.shape[0]
    ids = tuple(i % size for i in range(PROBE // 2))
    batch = policy.batch([ids], [[Response(ids, "")]])
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = policy.logprobs(batch)  # referred to until all is counted, so that no address is used twice
    del held
    return sum(kept.values()) / batch.tokens


def out_of_memory(error: BaseException) -> bool:
    """Whether a device's memory was exhausted: CUDA has a class for it, a CPU a message."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
