"""Language models as policies: any decoder checkpoint, full fine-tuning or LoRA, fp32 or bf16."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.data.collate import Ids, Scored, collate
from equipoise.data.pack import Batch, pack
from equipoise.data.tokens import NO_LIMIT
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import Scorer

log = logging.getLogger(__name__)

BUDGET = 4096  # tokens through the model at a time; on a CPU more at a time is no faster


class CausalPolicy:
    """A transformer that samples responses and scores them.

    Dropout stays off, so that a log-prob is a number and not a draw. LoRA adapters train on frozen weights;
    with full fine-tuning the trained weights are fp32 and bf16 is the precision of the matrix products.
    Raises ModelError when the model or tokenizer cannot be loaded.
    """

    def __init__(self, model: Any, tokenizer: Any, *, precision: str = "fp32") -> None:
        if precision not in ("fp32", "bf16"):
            raise ModelError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.scorer = Scorer(model, precision)
        self.precision = precision
        self.budget = BUDGET  # tokens through the model at a time
        self._told = False  # that a sequence is longer than a window
        self.network: nn.Module | None = None  # trained beside it, while a fit needs one

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
        """A decoder checkpoint in a folder (safetensors) or a hub name. Remote code is never run."""
        from transformers import AutoModelForCausalLM

        try:
            model, found = AutoModelForCausalLM.from_pretrained(
                str(path),
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot load a causal language model from {path}: {error}") from error
        if found["missing_keys"]:  # transformers would draw them at random
            raise ModelError(
                f"{path} lacks weights of the model: {', '.join(sorted(found['missing_keys'])[:3])}"
            )
        if lora_rank:
            model = _with_lora(model, lora_rank, lora_alpha or 2.0 * lora_rank, lora_targets, seed)
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
        """Token ids that end a response: the generation config's and the tokenizer's."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        stops = sorted({i for i in [*ids, self.tokenizer.eos_token_id] if i is not None})
        if not stops:
            raise ModelError("neither the model nor its tokenizer names an end-of-sequence token")
        return tuple(stops)

    @property
    def path(self) -> str:
        """The kernels that score: a log-prob differs between them by rounding."""
        return f"{self.device.type}, {'packed' if self.scorer.reach else 'rows'}"

    @property
    def max_positions(self) -> int:
        """Longest sequence the model was built for."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or NO_LIMIT)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and values of what is trained."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same, and then those of the network beside the policy."""
        yield from self.parameters()
        if self.network is not None:
            yield from ((f"network/{name}", p) for name, p in self.network.named_parameters())

    def batch(self, prompts: Sequence[Ids], responses: Sequence[Sequence[Scored]]) -> Batch:
        """Comparisons in the form the model takes them: packed, or padded rows where it must be.

        Raises ValueError for an empty prompt, an empty response or uneven K.
        """
        if self.scorer.reach:
            packed = pack(prompts, responses)
            if packed.longest <= self.scorer.reach:
                return packed
            if not self._told:
                log.warning(
                    "a sequence of %d tokens is longer than the model's window of %d: batches with such sequences "
                    "are scored as padded rows, which is slower",
                    packed.longest,
                    self.scorer.reach,
                )
                self._told = True
        return collate(prompts, responses, self.pad)

    def logprobs(self, batch: Batch, scorer: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """([B, K] summed log-probs, [B, K] token counts); differentiable.

        `scorer` is what a fit trains, else the policy's own.
        """
        logp, length = (scorer or self.scorer)(batch.to(self.device))
        return logp.view(batch.shape), length.view(batch.shape)

    def token_logprobs(self, batch: Batch, scorer: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """([B, K, T] log-probs of the responses' tokens, [B, K, T] True where there is one); differentiable."""
        logp, mask = (scorer or self.scorer)(batch.to(self.device), True)
        return logp.unflatten(0, batch.shape), mask.unflatten(0, batch.shape)

    def collisions(self, batch: Batch, scorer: nn.Module | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`token_logprobs`, and [B, K, T] log sum_v pi(v)^2 where each token is written; that without gradient."""
        logp, mask, met = (scorer or self.scorer)(batch.to(self.device), True, True)
        return logp.unflatten(0, batch.shape), mask.unflatten(0, batch.shape), met.unflatten(0, batch.shape)

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """([B, K, T, D] last hidden states that predict the responses' tokens, [B, K, T] True where there is one)."""
        found, mask = self.scorer.features(batch.to(self.device))
        return found.unflatten(0, batch.shape), mask.unflatten(0, batch.shape)


def _with_lora(model: Any, rank: int, alpha: float, targets: list[str] | None, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=targets or "all-linear",
        task_type="CAUSAL_LM",
    )
    # the adapter's A matrices are random; B starts at 0, so the policy is unchanged
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)
