"""Causal language models as policies: any decoder checkpoint, full fine-tuning or LoRA, fp32 or bf16."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.data.collate import Ids, ScoredIds, collate
from equipoise.data.pack import Batch, pack
from equipoise.data.tokens import NO_LIMIT
from equipoise.policy.alignment import align
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import Scorer

log = logging.getLogger(__name__)

DEFAULT_TOKEN_BUDGET = 4096  # tokens of a micro-batch; on a CPU more are no faster


class CausalPolicy:
    """A causal language model that samples responses and scores them.

    Dropout stays off, so that log-probs are deterministic. LoRA adapters train on frozen weights; with full fine-tuning
    the trained weights are fp32, and bf16 is the precision of the matrix products (autocast). Raises ModelError if the
    model cannot be loaded.
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
        self.network: nn.Module | None = None  # an auxiliary head trained jointly, while a fit needs one

    @classmethod
    def load(
        cls,
        path: str | Path,
        tokenizer: Any,
        *,
        precision: str = "fp32",
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        lora_targets: list[str] | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> CausalPolicy:
        """Load a decoder checkpoint from a folder (safetensors) or by its hub name. Remote code is never run."""
        from transformers import AutoModelForCausalLM

        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(path),
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot load a causal language model from {path}: {error}") from error
        model, info = loaded
        if info["missing_keys"]:  # transformers would initialise them at random
            raise ModelError(
                f"{path} lacks weights of the model: {', '.join(sorted(info['missing_keys'])[:3])}"
            )
        if lora_rank:
            model = _with_lora(model, lora_rank, lora_alpha or 2.0 * lora_rank, lora_targets, seed)
        align(model)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), tokenizer, precision=precision)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else self.tokenizer.eos_token_id

    @property
    def stops(self) -> tuple[int, ...]:
        """End-of-sequence token ids: the generation config's and the tokenizer's."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        stops = sorted({i for i in [*ids, self.tokenizer.eos_token_id] if i is not None})
        if not stops:
            raise ModelError("neither the model nor its tokenizer names an end-of-sequence token")
        return tuple(stops)

    @property
    def path(self) -> str:
        """Scoring path, device and row layout: log-probs differ between paths by rounding."""
        return f"{self.device.type}, {'packed' if self.scorer.max_packed_length else 'rows'}"

    @property
    def max_positions(self) -> int:
        """Context length: the longest sequence the model was built for."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or NO_LIMIT)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trainable parameters of the model, with their names."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trainable parameters of the model, then those of the auxiliary head, if there is one."""
        yield from self.parameters()
        if self.network is not None:
            yield from ((f"network/{name}", p) for name, p in self.network.named_parameters())

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


def _with_lora(model: Any, rank: int, alpha: float, targets: list[str] | None, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft says int and takes a fraction
        lora_dropout=0.0,
        target_modules=targets or "all-linear",
        task_type="CAUSAL_LM",
    )
    # A is initialised at random and B at 0, so the policy is unchanged
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)
