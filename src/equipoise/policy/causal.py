"""Causal language models as policies: any decoder checkpoint, full fine-tuning or LoRA, fp32 or bf16."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.data.collate import Ids, ScoredIds, collate
from equipoise.data.pack import Batch, pack
from equipoise.data.rendering.tokens import NO_LIMIT
from equipoise.models.adapters import chain
from equipoise.models.errors import first_line
from equipoise.models.tokenizer import check_tokenizer
from equipoise.policy.activation_checkpointing import blocks_of
from equipoise.policy.alignment import align
from equipoise.policy.dependence import reads_ahead
from equipoise.policy.heap import give_back, map_large_tensors
from equipoise.policy.kernels.device_attention import why_not
from equipoise.policy.loading import Lora, Start, load_model, plan
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import Scorer, backbone, causal_lm
from equipoise.policy.sharding.sharded import Sharded

log = logging.getLogger(__name__)

DEFAULT_TOKEN_BUDGET = 4096  # tokens of a micro-batch; on a CPU more are no faster


class CausalPolicy:
    """A causal language model that samples responses and scores them.

    Dropout stays off, so that log-probs are deterministic. LoRA adapters train on frozen weights, which may be held
    in bf16; trained weights are fp32, and bf16 is the precision of the matrix products (autocast). Raises ModelError if
    the model cannot be loaded.
    """

    def __init__(self, model: Any, tokenizer: Any, *, precision: str = "fp32") -> None:
        if precision not in ("fp32", "bf16"):
            raise ModelError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.scorer = Scorer(model, precision)
        self.precision = precision
        self.token_budget = DEFAULT_TOKEN_BUDGET  # tokens of a micro-batch, at most
        self._warned_window = False  # that a sequence is longer than the model's window
        # token ids that close an answer in the data, in addition to the end-of-sequence tokens
        self.turn_ends: tuple[int, ...] = ()
        self.start: Start | None = None  # what it was loaded from, if from a folder
        self.about: Mapping[str, str] = {}  # facts of the run, for the model cards of its checkpoints
        self.network: nn.Module | None = None  # an auxiliary head trained jointly, while a fit needs one
        self.shards: list[Sharded] = []  # the scorer, and the head, while they are divided among processes

    @classmethod
    def load(
        cls,
        path: str | Path,
        tokenizer: Any,
        *,
        precision: str = "fp32",
        adapter: str = "auto",
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        lora_targets: list[str] | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
        base_folder: Path | None = None,
        base_dtype: str = "checkpoint",
        quantization: str = "none",
    ) -> CausalPolicy:
        """Load a causal language model from a folder (safetensors) or by its hub name. Remote code is never run.

        path           a full model, or a PEFT LoRA adapter, which may stand on another adapter.
        adapter        what becomes of the adapter (`policy.loading.plan`): "auto", "continue" or "merge".
        base_folder    where a merged model is written for the adapters that are trained on it; needed only then.
        base_dtype     of the frozen weights under an adapter: "checkpoint" (as their files), "float32" or "bfloat16".
        quantization   of the linear layers under an adapter: "none", "4bit" or "8bit" (QLoRA), by bitsandbytes.

        Raises ModelError, in one sentence, for a folder that is broken or of an unsupported kind.
        """
        lora = Lora(rank=lora_rank, alpha=lora_alpha, targets=lora_targets, seed=seed)
        start = plan(chain(path), lora, adapter, base_dtype, quantization)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if start.base.quantization != "none" and torch.device(device).type == "cpu":
            map_large_tensors()  # dequantised weights would leave the heap full of gaps
        model = load_model(start, lora, base_folder)
        align(model)
        if tokenizer is not None:
            check_tokenizer(path, tokenizer, rows=model.get_input_embeddings().weight.shape[0])
        try:
            ahead = reads_ahead(causal_lm(model), backbone(model))
            policy = cls(model.to(device), tokenizer, precision=precision)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{path}: the model does not run on a few tokens: {first_line(error)}"
            ) from error
        if ahead:
            raise ModelError(f"{path} is not a causal language model: its states depend on later tokens")
        policy.start = start
        give_back()
        return policy

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else self.tokenizer.eos_token_id

    @property
    def stops(self) -> tuple[int, ...]:
        """Token ids at which sampling stops: the generation config's, the tokenizer's EOS, and `turn_ends`."""
        stops = sorted({*self._named_ends(), *self.turn_ends})
        if not stops:
            raise ModelError("neither the model nor its tokenizer names an end-of-sequence token")
        return tuple(stops)

    def stop_at(self, turn_ends: Sequence[int]) -> None:
        """Lets sampling stop where the chat template closes an answer, with a warning if nothing else says so."""
        self.turn_ends = tuple(turn_ends)
        unnamed = sorted(set(turn_ends) - self._named_ends())
        if unnamed:
            log.warning(
                "the chat template closes an answer with %s, which neither the generation config nor the tokenizer "
                "names as an end: sampling stops there here, and other engines must be told to",
                " or ".join(map(repr, self.tokenizer.convert_ids_to_tokens(unnamed))),
            )

    def _named_ends(self) -> set[int]:
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return {i for i in [*ids, self.tokenizer.eos_token_id] if i is not None}

    @property
    def path(self) -> str:
        """Scoring path, device and row layout: log-probs differ between paths by rounding."""
        rows = "packed" if self.scorer.max_packed_length else "rows"
        by = f" by {self.scorer.attention}" if self.scorer.attention else ""
        return f"{self.device.type}, {rows}{by}"

    @property
    def max_positions(self) -> int:
        """Context length: the longest sequence the model was built for."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or NO_LIMIT)

    def notes(self) -> list[str]:
        """What a user should know of how the policy was loaded, for a run's banner; one sentence each."""
        said = [] if self.start is None else [self.start.describe()]
        if (
            self.start is not None
            and self.start.chain.base.dtype in ("BF16", "F16")
            and not self.start.adapted
        ):
            said.append(
                f"its weights came in {self.start.chain.base.dtype} and are trained and kept in fp32, twice the size; "
                "the folder export has the last policy as it came (model.export)"
            )
        if getattr(self.model.config, "router_aux_loss_coef", None):
            said.append("a mixture of experts: the router's load-balancing loss is not used")
        return [sentence for sentence in said if sentence]

    def recompute(self, activations: bool) -> None:
        """Activation checkpointing on or off. Raises ModelError for a model whose blocks cannot be told."""
        if activations:
            blocks_of(backbone(self.model))
        self.scorer.recompute = activations

    def attend_by(self, form: str) -> None:
        """Attention kernel of packed rows on a GPU in bf16: "varlen", "flex", or "auto", the device's usual one.

        Raises ModelError for a kernel that packed rows of this policy do not take, or that is not exact on this device.
        """
        self.scorer.attention = None
        if form != "auto":
            lack = "it takes bf16 products (model.precision=bf16)" if self.precision != "bf16" else ""
            if not self.scorer.max_packed_length:
                lack = "the model takes no packed rows"
            lack = lack or why_not(form, self.device)
            if lack:
                raise ModelError(
                    f"model.attention={form} cannot be used: {lack}; auto takes the usual kernel"
                )
            self.scorer.attention = form
        if self.device.type != "cpu" and self.scorer.max_packed_length:
            how = "one causal call on padded sequences" if form == "auto" else form
            log.info("attention of packed rows: %s", how)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trainable parameters of the model, with their names."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trainable parameters of the model, then those of the auxiliary head, if there is one."""
        yield from self.parameters()
        if self.network is not None:
            yield from ((f"network/{name}", p) for name, p in self.network.named_parameters())

    def divide(self, processes: int) -> None:
        """Divide the weights among processes (FSDP2), which all call this; `join` is its inverse.

        Until then every forward pass is one of all processes. Raises ModelError for a model that cannot be divided.
        """
        self.shards = [
            Sharded(
                self.scorer, processes, lambda scorer: blocks_of(backbone(scorer.model), "train.sharding")
            )
        ]
        if self.network is not None:
            self.shards.append(Sharded(self.network, processes, lambda head: []))
        self._hold([shard.parts for shard in self.shards])

    def join(self) -> None:
        """Make the weights whole in every process, as they are now."""
        for shard in self.shards:
            shard.gather(drop=True)
        self._hold([shard.whole for shard in self.shards])
        self.shards = []

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Context manager: the weights are whole for a moment, beside what is divided."""
        for shard in self.shards:
            shard.gather()
        self._hold([shard.whole for shard in self.shards])
        try:
            yield
        finally:
            self._hold([shard.parts for shard in self.shards])
            for shard in self.shards:
                shard.release()

    def _hold(self, modules: Sequence[nn.Module]) -> None:
        for module in modules:
            if isinstance(module, Scorer):
                self.scorer, self.model = module, module.model
            else:
                self.network = module

    def batch(self, prompts: Sequence[Ids], responses: Sequence[Sequence[ScoredIds]]) -> Batch:
        """Batch of comparisons in the layout that the model takes: packed, or padded rows as a fallback.

        Raises ValueError for an empty prompt, an empty response or uneven K.
        """
        if self.scorer.max_packed_length:
            packed = pack(prompts, responses)
            if packed.longest <= self.scorer.max_packed_length:
                return packed
            if not self._warned_window:
                log.warning(
                    "a sequence of %d tokens is longer than the model's window of %d: batches with such sequences "
                    "are scored as padded rows, which is slower",
                    packed.longest,
                    self.scorer.max_packed_length,
                )
                self._warned_window = True
        return collate(prompts, responses, self.pad)

    def logprobs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Response log-probs: ([B, K] sums, [B, K] token counts); differentiable."""
        logp, length = self.scorer(batch.to(self.device))
        return logp.view(batch.shape), length.view(batch.shape)

    def token_logprobs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Token log-probs: ([B, K, T] values, [B, K, T] mask, True where there is a token); differentiable."""
        logp, mask = self.scorer(batch.to(self.device), True)
        return logp.unflatten(0, batch.shape), mask.unflatten(0, batch.shape)

    def collisions(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """`token_logprobs`, and log collision probabilities: [B, K, T] log sum_v pi(v)^2, detached.

        pi is the next-token distribution that predicts the token.
        """
        logp, mask, log_collisions = self.scorer(batch.to(self.device), True, True)
        return (
            logp.unflatten(0, batch.shape),
            mask.unflatten(0, batch.shape),
            log_collisions.unflatten(0, batch.shape),
        )

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of the responses' tokens: ([B, K, T, D] last hidden states that predict them, [B, K, T] mask)."""
        states, mask = self.scorer.features(batch.to(self.device))
        return states.unflatten(0, batch.shape), mask.unflatten(0, batch.shape)
