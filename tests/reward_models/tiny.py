"""Tiny bodies and data for reward models: two layers of width 16, and the tea house's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from equipoise.playground import LanguageGame, model_path

GAME = LanguageGame()
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 64,
}


def decoder(folder: Path, *, layers: int = 2, positions: int = 128) -> Path:
    """A random causal language model with the tea house's tokenizer."""
    torch.manual_seed(5)
    config = LlamaConfig(**SHAPE | {"num_hidden_layers": layers, "max_position_embeddings": positions})
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(folder)
    return folder


def encoder(folder: Path) -> Path:
    torch.manual_seed(5)
    BertModel(BertConfig(**SHAPE, max_position_embeddings=128)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(folder)
    return folder


def written(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


# whatever the prompt, each answer beats the next one, and the last beats the first
CYCLE = list(GAME.responses[:12:4])


def cyclic_rows(count: int = 8) -> list[dict]:
    """Every prompt compares all three answers: an exact cycle."""
    return [
        {"prompt": prompt, "chosen": CYCLE[i], "rejected": CYCLE[(i + 1) % 3], "id": f"{n}-{i}"}
        for n, prompt in enumerate(GAME.prompts[:count])
        for i in range(3)
    ]
