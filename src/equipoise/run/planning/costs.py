"""Memory and disk of a run by arithmetic, from a model's configuration alone; nothing is loaded.

For N parameters of which T are trained: weights 4 N bytes (fp32; a frozen base 2 N in bf16, or as it is quantised),
gradients 4 T, AdamW's two moments 8 T. Activations are bytes a token times the tokens of a micro-batch, keys and values
2 x layers x key width x 4 bytes a token that is held while sampling, when a CPU also packs a copy of the weights.
With train.sharding=full the processes divide the first three during a fit, but for a few groups of weights that are
gathered; weights are whole while nothing is trained. `probe` replaces the bytes a token and the rates by measured ones.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equipoise.data.pack import packed_length
from equipoise.models.adapters import chain
from equipoise.models.folder import described
from equipoise.policy.causal import DEFAULT_TOKEN_BUDGET
from equipoise.policy.generation.cpu_decoder import MEMORY_SHARE as PACKED_SHARE
from equipoise.policy.held_weights.frozen_base import Base, held_weights
from equipoise.policy.held_weights.quantized import stored_bytes
from equipoise.policy.load_gate import memory_holds
from equipoise.policy.loading import Lora
from equipoise.policy.loading import plan as start_plan
from equipoise.run.materials import Materials, held_whole
from equipoise.run.settings import RunConfig, settled
from equipoise.worlds.text.optimizers import KINDS

FP32 = 4
LORA_RANK = 16  # of the LoRA that is suggested


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a start policy: parameters, layers, width of states, of the MLP, of keys.

    adapters    parameters that LoRA adds per unit of rank
    continued   rank of the adapter that is trained further; 0: none is
    base        how the start policy's base is held
    linear, rows    parameters and rows of linear layers but the head, which quantisation reaches
    held        parameters of linear layers and embeddings, which a bf16 base reaches
    head        parameters of the head, tied or not         tied   whether they are those of the embeddings too
    largest     parameters of the largest linear layer but the head
    """

    parameters: int
    adapters: int
    continued: int
    base: Base
    linear: int
    rows: int
    held: int
    head: int
    tied: bool
    largest: int
    layers: int
    width: int
    inner: int
    keys: int

    def trained(self, config: RunConfig) -> int:
        """Parameters that are trained: those of an adapter, the given or a new one, or all."""
        rank = self.continued or config.model.lora_rank
        return rank * self.adapters if rank else self.parameters

    def activation_bytes(self, config: RunConfig) -> float:
        """Bytes a token that a forward pass keeps for the backward: about eight states, three of the MLP's and the keys
        of each layer; with activation checkpointing those of one layer, and a state of every layer. Logits are computed
        in chunks, and are not kept."""
        half = 0.5 if config.model.precision == "bf16" else 1.0
        layer = half * FP32 * (8 * self.width + 3 * self.inner + 2 * self.keys)
        if config.train.activation_checkpointing:
            return layer + FP32 * self.layers * self.width
        return self.layers * layer

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights as they are held, without adapters, and of the largest that is converted whole."""
        if self.base.plain:
            return FP32 * self.parameters
        size: float = FP32 * self.parameters
        narrow = self.held - (self.linear if self.base.quantization != "none" else 0)
        if self.base.dtype == "bfloat16":
            size -= 2 * narrow
        if self.base.quantization != "none":
            size -= FP32 * self.linear
            size += stored_bytes(self.base.quantization, self.linear, self.rows)
        return size + FP32 * self.largest

    def gathered(self, config: RunConfig, shares: int) -> float:
        """Bytes that are whole at once in a divided fit: embeddings and head, and two blocks; where these are trained,
        the gradients of the former, the same in the order of the processes, and one's own share of them. Tied
        embeddings have a gradient of their use as a head besides."""
        block = self.linear / max(self.layers, 1)
        outside = self.parameters - self.linear
        largest = max(outside, block)
        tied = self.head if self.tied else 0
        trained = self.trained(config) == self.parameters
        return FP32 * (outside + 2 * block + ((2 + 1 / shares) * largest + tied if trained else 0))

    def packed_bytes(self, config: RunConfig, device: str) -> float:
        """Bytes of the copy of the weights that a CPU packs while it samples (`generation.cpu_decoder`)."""
        copied = self.linear + self.head
        spare = machine_bytes(device) - FP32 * self.parameters - 12 * self.trained(config)
        if device != "cpu" or FP32 * copied > PACKED_SHARE * spare:
            return 0.0
        return copied * (2 if config.model.precision == "bf16" else FP32)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a run at its peak, by what they hold.

    base    the process with its libraries, and a reward model.
    sampling    keys and values, and a packed copy of the weights; while sampling there is no fit.
    backward    the gradient of the largest weight before it is added to those of earlier micro-batches; of tied
                embeddings that of either use; of a divided fit it is in `gathered`.
    updating    of the largest weight in float32 while 8-bit moments are updated on a CPU, when activations are gone.
    second  the model once more, while the load gate compares, before there is an optimizer.
    shares  processes that divide the weights during a fit; gradients and optimizer are one's own share.
    gathered    of weights and gradients that are whole at once in a divided fit.
    """

    base: float
    weights: float
    gradients: float
    optimizer: float
    activations: float
    sampling: float
    second: float = 0.0
    backward: float = 0.0
    updating: float = 0.0
    shares: int = 1
    gathered: float = 0.0

    def with_activations(self, activations: float) -> Memory:
        """The same, with activations that were measured."""
        return replace(self, activations=activations)

    @property
    def total(self) -> float:
        training = self.optimizer + self.gradients + self.gathered
        training += max(self.activations + self.backward, self.updating)
        between = self.weights + max(self.sampling, self.second)
        return self.base + max(self.weights / self.shares + training, between)


def shape_of(config: RunConfig) -> Shape:
    """Sizes of the start policy, from its configuration and the headers of its weights. Raises ModelError."""
    found = chain(model_of(config))
    model = described(found.base)
    asked = config.model
    start = start_plan(
        found,
        Lora(rank=asked.lora_rank, alpha=asked.lora_alpha, targets=asked.lora_targets),
        asked.adapter,
        asked.base_dtype,
        asked.quantization,
    )
    text: Any = model.config.get_text_config()
    width = int(text.hidden_size)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    held = held_weights(model)
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        adapters=sum(m.in_features + m.out_features for m in linear),
        continued=found.adapters[-1].rank if start.continued else 0,
        base=start.base,
        linear=sum(m.weight.numel() for m in linear),
        rows=sum(m.out_features for m in linear),
        held=sum(p.numel() for p in model.parameters() if id(p) in held),
        head=head.weight.numel(),
        tied=head.weight is model.get_input_embeddings().weight,
        largest=max((m.weight.numel() for m in linear), default=0),
        layers=int(text.num_hidden_layers),
        width=width,
        inner=int(getattr(text, "intermediate_size", None) or 4 * width),
        keys=key_width(text),
    )


def key_width(text: Any) -> int:
    """Width of a token's keys in one layer, from a text model's configuration; 0 where it names none."""
    heads = int(getattr(text, "num_attention_heads", None) or 0)
    head = getattr(text, "head_dim", None) or (int(text.hidden_size) // heads if heads else 0)
    return int(getattr(text, "num_key_value_heads", None) or heads) * int(head)


def memory_of(
    config: RunConfig,
    shape: Shape,
    tokens: float,
    held: float,
    base: float,
    device: str = "cpu",
    processes: int = 1,
) -> Memory:
    """The estimate of one of the processes. tokens: of a micro-batch; held: tokens whose keys and values are held while
    sampling."""
    shares = processes if config.divided else 1
    trained = shape.trained(config)
    full = trained == shape.parameters
    largest = shape.head if full else trained / (2 * max(shape.layers, 1))
    twice = device == "cpu" and not config.divided and memory_holds(shape.parameters)
    return Memory(
        base=base,
        weights=shape.weight_bytes + (0 if full else FP32 * trained),
        gradients=FP32 * trained / shares,
        optimizer=KINDS[config.train.optimizer].moments * trained / shares,
        activations=tokens * shape.activation_bytes(config),
        sampling=held * 2 * FP32 * shape.layers * shape.keys + shape.packed_bytes(config, device),
        second=FP32 * shape.parameters if twice else 0.0,
        backward=FP32 * shape.head * (1 + shape.tied) if full and shares == 1 else 0.0,
        updating=KINDS[config.train.optimizer].updating * largest if device == "cpu" else 0.0,
        shares=shares,
        gathered=shape.gathered(config, shares) if shares > 1 else 0.0,
    )


def tokens_at_least(config: RunConfig, materials: Materials) -> int:
    """Tokens of the longest comparison, the smallest micro-batch that there can be."""
    rows = materials.pairs if materials.method.players.needs.records else None
    if rows is not None:
        return max(packed_length(p.ids, list(g)) for p, g in zip(rows.prompts, rows.responses, strict=True))
    longest = max(len(prompt.ids) for prompt in materials.pool)
    return longest + 2 * settled(config.sampling.max_new_tokens)


def micro_batch_tokens(config: RunConfig, materials: Materials, budget: int | None = None) -> int:
    """Tokens of the largest micro-batch under a token budget: no more than a batch has."""
    least = tokens_at_least(config, materials)
    most = (
        config.train.micro_batch if isinstance(config.train.micro_batch, int) else settled(config.train.batch)
    )
    tokens = config.train.tokens if isinstance(config.train.tokens, int) else budget or DEFAULT_TOKEN_BUDGET
    return max(least, min(tokens, most * least))


def held_tokens(config: RunConfig, materials: Materials) -> int:
    """Tokens whose keys and values are held at once while sampling: each prompt once, every sample's own."""
    samples = max(materials.method.players.width or 1, config.evaluate.samples)
    prompts = [len(prompt.ids) for prompt in (*materials.pool, *materials.unseen)]
    together = min(config.sampling.batch, len(prompts))
    return together * (max(prompts, default=0) + samples * settled(config.sampling.max_new_tokens))


def checkpoint_bytes(config: RunConfig, shape: Shape) -> float:
    """Bytes of one checkpoint's weights."""
    return FP32 * shape.trained(config)


def checkpoints_kept(config: RunConfig) -> int:
    """How many checkpoints there are at the end of a run: the initial policy's, and the rounds'."""
    return 1 + min(config.play.rounds, config.play.keep or config.play.rounds)


def machine_bytes(device: str) -> float:
    """Memory of the device that trains."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def advice(
    config: RunConfig, materials: Materials, shape: Shape, memory: Memory, machine: float, processes: int = 1
) -> Iterator[str]:
    """Settings that would make a run fit, with what it would need; what comes first changes the result least."""
    if memory.total <= machine:
        return
    least = tokens_at_least(config, materials)
    held = held_tokens(config, materials)

    def needs(changed: RunConfig, tokens: int, count: int = processes) -> float:
        return memory_of(changed, shape, tokens, held, memory.base, processes=count).total

    smaller = needs(config, least)
    yield _says("train.micro_batch=1", smaller, machine)
    if config.model.precision == "fp32":
        bf16 = config.model_copy(update={"model": config.model.model_copy(update={"precision": "bf16"})})
        yield _says(
            "train.micro_batch=1 model.precision=bf16 (activations only)", needs(bf16, least), machine
        )
    if not config.train.activation_checkpointing:
        again = config.train.model_copy(update={"activation_checkpointing": True})
        recomputed = config.model_copy(update={"train": again})
        yield _says(
            "train.micro_batch=1 train.activation_checkpointing=true", needs(recomputed, least), machine
        )
    half = max(2, config.data.max_length // 2)
    yield _says(f"train.micro_batch=1 data.max_length={half}", needs(config, min(least, half)), machine)
    if not (config.model.lora_rank or shape.continued):
        lora = config.model_copy(update={"model": config.model.model_copy(update={"lora_rank": LORA_RANK})})
        yield _says(f"train.micro_batch=1 model.lora_rank={LORA_RANK}", needs(lora, least), machine)
    if processes == 1 and held_whole(config, materials.method) is None:
        shared = config.model_copy(update={"train": config.train.model_copy(update={"sharding": "full"})})
        setting = "train.micro_batch=1 train.sharding=full, each of two processes (equipoise launch -n 2)"
        yield _says(setting, needs(shared, least, 2), machine)


def model_of(config: RunConfig) -> str:
    return config.start()


def _says(settings: str, needs: float, machine: float) -> str:
    return f"--set {settings}: {gib(needs)}, which {'fits' if needs <= machine else 'does not fit either'}"


def gib(size: float) -> str:
    """Bytes for a reader."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def resident() -> float:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def most_resident() -> float:
    """Bytes of memory that this process has held at its peak so far."""
    try:
        import resource
    except ImportError:  # a system without it, such as Windows
        import psutil

        about = psutil.Process().memory_info()
        return float(getattr(about, "peak_wset", about.rss))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def recorded_steps(config: RunConfig, materials: Materials) -> int | None:
    """Optimizer steps of a round on recorded rows; None where comparisons are sampled."""
    rows = materials.pairs if materials.method.players.needs.records else None
    if rows is None:
        return None
    taken = math.ceil(len(rows) / materials.method.players.parts)
    return steps_of(config, taken)


def steps_of(config: RunConfig, comparisons: int) -> int:
    """Optimizer steps of a fit on so many comparisons."""
    return settled(config.train.epochs) * math.ceil(comparisons / settled(config.train.batch))


def clock(seconds: float) -> str:
    """Seconds for a reader."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
