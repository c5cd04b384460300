"""Tiny random language models on disk, with weights large enough that mistakes show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from equipoise.playground import model_path


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path())


def causal(folder: Path, seed: int, *, positions: int = 512) -> LlamaForCausalLM:
    """A Llama of two layers, written to a folder with the playground's tokenizer."""
    words = tokenizer()
    config = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        vocab_size=64,
        max_position_embeddings=positions,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


@torch.no_grad()
def plain_logp(model: LlamaForCausalLM, prompt: list[int], response: list[int]) -> float:
    """log pi(response | prompt) by transformers' own logits, one row at a time."""
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double()
    logp = logits.log_softmax(dim=-1)
    return float(sum(logp[len(prompt) - 1 + i, token] for i, token in enumerate(response)))
