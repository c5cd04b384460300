"""Tiny models of several families, with weights large enough that mistakes show in the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from equipoise.playground import model_path
from equipoise.policy.causal import CausalPolicy

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 64}
# name -> (configuration class, its settings); Phi's head has a bias, Gemma 2 caps its logits
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SHAPE | {"num_key_value_heads": 2, "tie_word_embeddings": False}),
    "llama-tied": ("LlamaConfig", SHAPE | {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", SHAPE | {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", SHAPE | {"num_key_value_heads": 2, "head_dim": 8}),
    "mistral": ("MistralConfig", SHAPE | {"num_key_value_heads": 1}),
    "gemma": ("GemmaConfig", SHAPE | {"num_key_value_heads": 2, "head_dim": 16}),
    "mistral-window": ("MistralConfig", SHAPE | {"num_key_value_heads": 2, "sliding_window": 4}),
    "gemma3": ("Gemma3TextConfig", SHAPE | {"num_key_value_heads": 2, "head_dim": 8}),
    "gpt2": ("GPT2Config", GPT2),
    "neox": ("GPTNeoXConfig", SHAPE),
    "phi": ("PhiConfig", SHAPE),
    "gemma2": (
        "Gemma2Config",
        SHAPE
        | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 3.0},
    ),
}


@pytest.fixture(params=list(FAMILIES))
def sampled_family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["llama", "llama-tied", "qwen2", "gpt2", "phi", "gemma2"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(model_path())


@pytest.fixture
def tiny(tokenizer: Any) -> Callable[..., CausalPolicy]:
    """make(family, dtype=..., precision=..., eos=...) -> a policy with the same random weights every time."""

    def make(
        name: str = "llama", *, dtype: torch.dtype = torch.float32, precision: str = "fp32", **changes: Any
    ) -> CausalPolicy:
        kind, settings = FAMILIES[name]
        config = getattr(transformers, kind)(**(settings | IDS | changes))
        model = transformers.AutoModelForCausalLM.from_config(config)
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
        return CausalPolicy(model.to(dtype), tokenizer, precision=precision)

    return make


@pytest.fixture
def lora(tiny: Callable[..., CausalPolicy], tmp_path: Any, tokenizer: Any) -> CausalPolicy:
    """LoRA adapters on the tiny Llama, read from disk as a run does."""
    tiny().model.save_pretrained(tmp_path / "base")
    return CausalPolicy.load(tmp_path / "base", tokenizer, lora_rank=4, device="cpu")
