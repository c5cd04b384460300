"""The tiny pretrained transformer that ships with the package, and its exact policy."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from equipoise.core.logprob import response_logps, scored_positions, token_logps_from_logits

POLICY_FILE = "reference_policy.safetensors"


def model_path() -> Path:
    """The folder of the shipped model and tokenizer, in Hugging Face format."""
    with as_file(files("equipoise.playground") / "model") as path:
        return path


def load_model(path: str | Path | None = None) -> tuple[Any, Any]:
    """Loads (model, tokenizer) with transformers from the given folder or the shipped one; float32, no remote code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = model_path() if path is None else path
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(path, local_files_only=True)


def reference_policy() -> Float[Tensor, "X A"]:
    """The shipped model's pi_ref(a | x), conditional on the grammar; float64, rows sum to 1.

    Read from a small table that `python -m equipoise.playground.train` writes by exact enumeration.
    """
    return load_file(model_path() / POLICY_FILE)["policy"]


@torch.no_grad()
def response_logprob(
    model: Any, tokenizer: Any, prompts: Sequence[str], responses: Sequence[str]
) -> Float[Tensor, "X A"]:
    """log pi(response, end of sequence | prompt) of every response to every prompt, by enumeration, in nats.

    Exponentials of a row sum to the mass inside the grammar, at most 1. The prompt is encoded with its BOS, the
    response separately without special tokens, and EOS is appended. float64 (from the model's float32 logits).
    Raises ValueError unless all prompts have the same length in tokens, and all responses too: the grammar's do,
    so nothing is padded.
    """
    prompt_ids = _ids(tokenizer(list(prompts))["input_ids"], "prompts")
    plain = tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    answer_ids = _ids([[*ids, tokenizer.eos_token_id] for ids in plain], "responses")
    table = []
    for prompt in prompt_ids:
        ids = torch.cat([prompt.expand(len(answer_ids), -1), answer_ids], dim=1)
        at = scored_positions((torch.arange(ids.shape[1]) >= len(prompt)).expand_as(ids))
        logits = model(ids.to(model.device)).logits.double().cpu()
        tokens = token_logps_from_logits(logits[at.row, at.predictor], ids[at.row, at.target])
        table.append(response_logps(tokens, at.row, len(ids)).logp_sum)
    return torch.stack(table)


def _ids(rows: Sequence[Sequence[int]], what: str) -> Tensor:
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"exact enumeration needs {what} of equal length in tokens")
    return torch.tensor(rows, dtype=torch.long)
