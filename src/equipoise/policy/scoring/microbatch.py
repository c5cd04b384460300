"""Micro-batches under a token budget, and the probe that measures the budget from the device's memory."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.data.collate import Ids, Response, ScoredIds, row_length
from equipoise.data.pack import packed_length, shares
from equipoise.policy.activation_checkpointing import blocks_of
from equipoise.policy.causal import DEFAULT_TOKEN_BUDGET, CausalPolicy
from equipoise.policy.scorer import backbone

Comparison = tuple[Ids, Sequence[ScoredIds]]  # a prompt's token ids and its responses

MAX_GPU_BUDGET = 2**17  # tokens
MEMORY_SHARE = 0.5  # of the memory that weights, gradients and optimizer leave, for activations
PROBE_TOKENS = 64


def microbatches(
    policy: CausalPolicy, comparisons: Sequence[Comparison], most: int | None = None
) -> list[list[int]]:
    """Micro-batches under the policy's token budget, as indices of comparisons; a function of data and settings alone.

    most    comparisons in a micro-batch, at most; None: no limit besides `policy.token_budget` tokens.

    A comparison larger than the budget is a micro-batch by itself. In packed rows comparisons of one prompt are
    neighbours, because they share its computation; in padded rows those of similar length.
    """
    packs = policy.scorer.max_packed_length > 0
    if packs:
        first: dict[Ids, int] = {}
        keys = [first.setdefault(prompt, len(first)) for prompt, _ in comparisons]
        sizes = [packed_length(*comparison) for comparison in comparisons]
    else:
        keys = [max(row_length(prompt, r) for r in group) for prompt, group in comparisons]
        sizes = [len(group) * key for key, (_, group) in zip(keys, comparisons, strict=True)]
    order = sorted(range(len(comparisons)), key=keys.__getitem__)
    slices = shares([sizes[i] for i in order], policy.token_budget, most, padded=not packs)
    return [order[each] for each in slices]


def measure_token_budget(policy: CausalPolicy, shares: int = 1) -> int:
    """Token budget from the device's memory: tokens whose activations fill a share of it, a power of 2.

    The bytes of a token are measured by a probe of 64 tokens. Memory is the device's total, less the weights as they
    are held and 12 bytes more for every trained one: the budget depends on machine and model, not on what else runs, so
    that a resumed run forms the same micro-batches.

    shares    processes that divide weights, gradients and moments.
    """
    device, parameters = policy.device, list(policy.model.parameters())
    if device.type == "cuda":
        memory, largest = torch.cuda.get_device_properties(device).total_memory, MAX_GPU_BUDGET
    elif hasattr(os, "sysconf"):
        memory, largest = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), DEFAULT_TOKEN_BUDGET
    else:  # Windows does not tell
        return DEFAULT_TOKEN_BUDGET
    free = memory - sum(p.nbytes + 12 * p.numel() * p.requires_grad for p in parameters) / shares
    affordable = max(1, int(MEMORY_SHARE * free / bytes_per_token(policy)))
    return int(min(largest, 2 ** (affordable.bit_length() - 1)))


def bytes_per_token(policy: CausalPolicy) -> float:
    """Activation memory: bytes per token that a probe's forward saves for the backward, weights not counted.

    With activation checkpointing: what is saved outside of the blocks, each block's input, and what one block saves
    when it is computed again.
    """
    if not policy.scorer.recompute:
        return _saved_bytes(policy)
    outside = _saved_bytes(policy)  # blocks hide what they save
    policy.scorer.recompute = False
    try:
        whole = _saved_bytes(policy)
    finally:
        policy.scorer.recompute = True
    count = len(blocks_of(backbone(policy.model)))
    width = policy.model.get_input_embeddings().weight.shape[1]
    return outside + (whole - outside) / count + count * width * torch.float32.itemsize


def _saved_bytes(policy: CausalPolicy) -> float:
    """Bytes per token of what autograd saves in a probe's forward."""
    size = policy.model.get_input_embeddings().weight.shape[0]
    ids = tuple(i % size for i in range(PROBE_TOKENS // 2))
    batch = policy.batch([ids], [[Response(ids, "")]])
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    saved: dict[int, int] = {}
    alive: list[Tensor] = []  # until all is counted, so that no address is used twice

    def save(tensor: Tensor) -> None:
        """Nothing is kept for a backward: a graph that held its own outputs, and with them the weights, would stay."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor.detach())

    with torch.autograd.graph.saved_tensors_hooks(save, lambda nothing: nothing):
        policy.logprobs(batch)
    return sum(saved.values()) / batch.tokens


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is out-of-memory: CUDA has a class for it, a CPU a message."""
    messages = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(message in str(error) for message in messages)
