"""Language models as policies: any decoder checkpoint, full fine-tuning or LoRA, fp32 or bf16."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.core.logprob import (
    Scored,
    by_response,
    response_logps,
    scored_positions,
    token_logps,
    token_logps_from_logits,
)
from equipoise.data.collate import Prompt, Response, TokenBatch
from equipoise.data.tokens import NO_LIMIT
from equipoise.policy.protocol import Decoding, ModelError
from equipoise.policy.sample import sample

log = logging.getLogger(__name__)


class Scorer(nn.Module):
    """The part of a policy that training wraps: token ids in, response log-probs out.

    Where the head is a plain linear map (checked by a probe, not assumed) only the rows that predict scored
    tokens pass through it, in chunks; otherwise the model's own logits are used.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self.linear_head = _head_is_linear(model)
        if not self.linear_head:
            log.warning("the model's head is not a plain linear map: scoring through its full logits")

    def forward(
        self, ids: Tensor, attention: Tensor, scored: Tensor, tokens: bool = False
    ) -> tuple[Tensor, Tensor]:
        """[R, S] ids -> ([R] summed response log-probs in float64, [R] scored tokens).

        With `tokens` instead ([R, T] log-probs of the scored tokens, [R, T] True where there is one).
        """
        where = scored_positions(scored)
        targets = ids[where.row, where.target]
        with self.autocast(ids.device):
            if self.linear_head:
                hidden = self.hidden(ids, attention, where)
                head = causal_lm(self.model).get_output_embeddings()
                logps = token_logps(hidden, head.weight.to(hidden.dtype), targets, bias=head.bias)
            else:
                logits = self.model(input_ids=ids, attention_mask=attention, use_cache=False).logits
                logps = token_logps_from_logits(logits[where.row, where.predictor], targets)
        return (by_response if tokens else response_logps)(logps, where.row, len(ids))

    def hidden(self, ids: Tensor, attention: Tensor, where: Scored) -> Tensor:
        """[N, D] last hidden states from which the scored tokens are predicted."""
        states = backbone(self.model)(input_ids=ids, attention_mask=attention, use_cache=False)
        found: Tensor = states.last_hidden_state[where.row, where.predictor]
        return found

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        bf16 = self.precision == "bf16"
        return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()


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
    def max_positions(self) -> int:
        """Longest sequence the model was built for."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or NO_LIMIT)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and values of what is trained."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    def logprobs(self, batch: TokenBatch, scorer: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """([B, K] summed log-probs, [B, K] token counts); differentiable.

        `scorer` is the wrapped module (DDP and the like) while training, else the policy's own.
        """
        on_device = batch.to(self.device)
        logp, length = (scorer or self.scorer)(on_device.ids, on_device.attention, on_device.scored)
        return logp.view(batch.shape), length.view(batch.shape)

    def token_logprobs(self, batch: TokenBatch, scorer: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """([B, K, T] log-probs of the responses' tokens, [B, K, T] True where there is one); differentiable."""
        on_device = batch.to(self.device)
        logp, mask = (scorer or self.scorer)(on_device.ids, on_device.attention, on_device.scored, True)
        return logp.unflatten(0, batch.shape), mask.unflatten(0, batch.shape)

    @torch.no_grad()
    def features(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """([B, K, T, D] last hidden states that predict the responses' tokens, [B, K, T] True where there is one)."""
        on_device = batch.to(self.device)
        where = scored_positions(on_device.scored)
        with self.scorer.autocast(self.device):
            hidden = self.scorer.hidden(on_device.ids, on_device.attention, where)
        found, mask = by_response(hidden.float(), where.row, len(on_device.ids))
        return found.unflatten(0, batch.shape), mask.unflatten(0, batch.shape)

    def sample(
        self,
        prompts: Sequence[Prompt],
        count: int,
        *,
        seed: int,
        decoding: Decoding,
        places: Sequence[int] | None = None,
        mixed_with: tuple[Any, float] | None = None,
    ) -> list[list[Response]]:
        """`count` responses to every prompt; see `policy.sample`."""
        return sample(
            self, prompts, count, seed=seed, decoding=decoding, places=places, mixed_with=mixed_with
        )


def causal_lm(model: nn.Module) -> Any:
    """The causal language model inside adapters, if there are any."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def backbone(model: nn.Module) -> Any:
    """The model without its head: ids in, hidden states out."""
    base = causal_lm(model)
    return getattr(base, base.base_model_prefix)


@torch.no_grad()
def _head_is_linear(model: nn.Module) -> bool:
    """Whether head(backbone(ids)) gives the model's own logits: scaled or capped heads do not."""
    head = causal_lm(model).get_output_embeddings()
    if type(head) is not nn.Linear:
        return False
    ids = torch.arange(1, 6, device=head.weight.device).remainder(head.weight.shape[0])[None]
    hidden = backbone(model)(input_ids=ids, use_cache=False).last_hidden_state
    own = model(input_ids=ids, use_cache=False).logits.float()
    return bool(torch.allclose(head(hidden).float(), own, rtol=1e-4, atol=1e-4 * float(own.abs().max())))


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
